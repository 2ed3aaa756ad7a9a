"""The configuration file, checked before Snakemake reads it. Defines no rules."""

import sys

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from xtalgen.experiment.config_file import check_config_file

for file in dict.fromkeys([*map(Path, workflow.configfiles), Path("config.yaml")]):
    if file.is_file():
        check_config_file(file)
