"""In which numbers a pass is computed: single precision, or whole numbers of 8 bits where the processor multiplies them."""

from biolmm.genotypes.arithmetic.choice import PRECISIONS, Precision, arithmetic_of
from biolmm.genotypes.arithmetic.float32 import Float32
from biolmm.genotypes.arithmetic.protocol import Arithmetic, Operand

__all__ = ["PRECISIONS", "Arithmetic", "Float32", "Operand", "Precision", "arithmetic_of"]
