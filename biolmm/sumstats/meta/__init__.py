"""Meta-analysis of aligned studies: arrays in, frozen dataclasses out; no files, no lazy arrays.

Every analysis takes a `block.StudyBlock` of any number of variants and works on each alone, so that chunks make no
difference. What spans variants (λ, distances between ancestries, overlap of samples) comes from sums of chunks that add up.
"""
