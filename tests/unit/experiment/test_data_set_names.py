from xtalgen.datasets.registry import DATA_SETS
from xtalgen.experiment.data_set_names import published_sets
from xtalgen.experiment.plan import PUBLISHED_SETS


def test_the_names_read_from_the_source_are_those_of_the_list():
    assert published_sets() == PUBLISHED_SETS == tuple(DATA_SETS)
