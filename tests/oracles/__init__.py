"""What the fast code is held against: definitions written out, and toy data to evaluate them on."""
