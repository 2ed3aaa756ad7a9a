"""How far two computations of the same number may differ in float64 (eps = 2.2e-16), whatever the processor.

Processors differ in the order of sums and in fused multiplications, so a last digit is no error.
"""

# Sums of up to 10^4 terms of order 1 to 100, in any order: 10^4 · eps · 100 = 2e-10.
SUMS = 1e-9
# Whatever passes through arccos: near a cosine of ±1, which collinear neighbours have, an error eps in the cosine is
# √(2 eps) = 2.1e-8 in the angle. CrystalNN's order parameters add up some of these.
ANGLES = 2e-7
