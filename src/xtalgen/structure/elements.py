"""The order in which the elements of a formula are told; without torch, for stages that train nothing."""

# Atomic numbers by Pauling's electronegativity, equal ones by atomic number, those without one last.
ORDER = (
    87, 55, 19, 37, 56, 88, 11, 38, 3, 20, 57, 65, 70, 89, 58, 59, 61, 60, 62, 63, 64, 39, 66, 67, 68, 69, 71, 94, 72,
    90, 95, 96, 97, 98, 99, 100, 12, 40, 21, 93, 92, 73, 91, 22, 25, 4, 41, 13, 81, 23, 30, 24, 48, 49, 31, 26, 27, 14,
    29, 43, 75, 28, 47, 50, 80, 84, 32, 83, 5, 51, 52, 42, 33, 15, 1, 44, 46, 76, 77, 85, 86, 45, 78, 82, 74, 79, 6, 34,
    16, 54, 53, 35, 36, 7, 17, 8, 9, 2, 10, 18,
)  # fmt: skip
