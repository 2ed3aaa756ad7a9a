"""The configuration file, checked before Snakemake reads it. Defines no rules."""

import sys

ROOT = Path(str(workflow.current_basedir)).parents[2]  # also where this is a module of another workflow
sys.path.insert(0, str(ROOT / "src"))

from xtalgen.experiment.config_file import check_config_file

for file in dict.fromkeys([*map(Path, workflow.configfiles), Path("config.yaml")]):
    if file.is_file():
        check_config_file(file)
