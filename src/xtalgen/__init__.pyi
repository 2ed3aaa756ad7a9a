from xtalgen.commands.functions.relaxing import relax
from xtalgen.commands.functions.results import CrystalSet, Scores
from xtalgen.commands.functions.sampling import generate, predict
from xtalgen.commands.functions.scoring import score
from xtalgen.crystals import Crystal

__version__: str
__all__ = ["Crystal", "CrystalSet", "Scores", "generate", "predict", "relax", "score"]
