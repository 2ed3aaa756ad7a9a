"""Elements: their symbols, and the order in which a formula names them."""

# Atomic numbers by Pauling's electronegativity, equal ones by atomic number, those without one last.
ORDER = (
    87, 55, 19, 37, 56, 88, 11, 38, 3, 20, 57, 65, 70, 89, 58, 59, 61, 60, 62, 63, 64, 39, 66, 67, 68, 69, 71, 94, 72,
    90, 95, 96, 97, 98, 99, 100, 12, 40, 21, 93, 92, 73, 91, 22, 25, 4, 41, 13, 81, 23, 30, 24, 48, 49, 31, 26, 27, 14,
    29, 43, 75, 28, 47, 50, 80, 84, 32, 83, 5, 51, 52, 42, 33, 15, 1, 44, 46, 76, 77, 85, 86, 45, 78, 82, 74, 79, 6, 34,
    16, 54, 53, 35, 36, 7, 17, 8, 9, 2, 10, 18,
)  # fmt: skip
# As far as the evaluation of CDVAE, DiffCSP and FlowMM knows elements.
PERIODIC_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf"
)
SYMBOLS = tuple(PERIODIC_TABLE.split())
MAX_VALID_NUMBER = len(SYMBOLS)  # 104; FlowMM (Miller et al. 2024) counts heavier elements as invalid
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
# All that a crystal table can hold.
ALL_SYMBOLS = (*SYMBOLS, *["Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"])
