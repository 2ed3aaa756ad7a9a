"""The list of data sets known by name, their addresses and checksums.

A data set is entered only here: the configuration's check reads the names from this file's source, and `make docs`
writes the table of docs/reference/data.md from it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

ADDRESS = "https://raw.githubusercontent.com/{repository}/{commit}/{folder}/{split}.csv"
CDVAE = "txie-93/cdvae"
CDVAE_COMMIT = "f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea"
DIFFCSP = "jiaor17/DiffCSP"
SEPARATOR = " | "


@dataclass(frozen=True)
class Split:
    """A published split.

    n_crystals: rows of the published file. git_blob_id: of that file. rows_sha256: of its ids and CIF texts
    (`sources.Source.rows_sha256`), which recognises a copy whose other columns were changed.
    """

    n_crystals: int
    git_blob_id: str | None = None
    rows_sha256: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set: its splits, where it is published (empty when it is embedded or derived), licence and citation.

    about: what it holds; atoms: fewest and most per cell; note: what else there is to know of the source. megabytes: of
    all splits as published, about; 0 where nothing is downloaded, or unknown. grouped_from: the data set whose crystals
    are redistributed by `group_of`, so that no formula is in two splits.
    """

    name: str
    splits: Mapping[str, Split]
    about: str
    atoms: tuple[int, int]
    licence: str
    reference: str
    note: str = ""
    repository: str = ""
    commit: str = ""
    folder: str = ""
    megabytes: int = 0
    grouped_from: str = ""
    caveat: str = field(default="", compare=False)

    @property
    def embedded(self) -> bool:
        """Whether the data set comes with an installed package and needs no file."""
        return not self.repository and not self.grouped_from

    def address(self, split: str) -> str:
        """Returns the address of a split's published file."""
        return ADDRESS.format(repository=self.repository, commit=self.commit, folder=self.folder, split=split)


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            name="aflow_20",
            splits={"train": Split(200), "val": Split(25), "test": Split(25)},
            about="AFLOW prototypes of up to 20 atoms that pymatgen ships; no download; for demonstration and tests",
            atoms=(1, 20),
            licence="MIT (as shipped with pymatgen)",
            reference="Mehl et al., Comput. Mater. Sci. 136, S1 (2017); pymatgen",
            note="The split is drawn once, with seed 0, and belongs to the data set. Ids are the AFLOW labels; the "
            "second crystal of a label is `LABEL-2`, and so on.",
            caveat="aflow_20 holds 250 prototypes, for demonstration: do not compare its numbers with published ones",
        ),
        DataSet(
            name="mp_20",
            repository=CDVAE,
            commit=CDVAE_COMMIT,
            folder="data/mp_20",
            megabytes=59,
            splits={
                "train": Split(27_136, "b1c9d498565ac2fd8d075a51ff2ef5e51ba6c21f"),
                "val": Split(
                    9_047,
                    "7efe4d7ebeb4f460ceaad35e5326c42111d9c9a1",
                    "8cd021dd0e7cca79130bd39885236a537ff329aac603efac533f100c677e9632",
                ),
                "test": Split(
                    9_046,
                    "5dc643041df53f5ce4970a79930ad262b4f07acd",
                    "1737cd2c6d2068e4b73eee5d6ae0dc93ba3d180ef00667ece09227eb61aedc99",
                ),
            },
            about="stable, mostly experimentally known crystals of the Materials Project",
            atoms=(1, 20),
            note="The files hold 45,229 crystals; their README says 45,231.",
            licence="CC-BY 4.0 (Materials Project)",
            reference="Jain et al., APL Mater. 1, 011002 (2013); splits: Xie et al., ICLR 2022 (CDVAE)",
        ),
        DataSet(
            name="mp_20_grouped",
            megabytes=59,
            grouped_from="mp_20",
            splits={},  # their sizes follow from the published splits
            about="the crystals of `mp_20`, all of one reduced formula in one split",
            atoms=(1, 20),
            licence="CC-BY 4.0 (Materials Project)",
            reference="Jain et al., APL Mater. 1, 011002 (2013); split by formula, after arXiv:2509.12178",
            caveat="mp_20_grouped is mp_20 split anew, all polymorphs in one split: compare with no values of mp_20",
        ),
        DataSet(
            name="mpts_52",
            repository=DIFFCSP,
            commit="main",  # no commit is known; the blob ids protect the content
            folder="data/mpts_52",
            megabytes=73,
            splits={
                "train": Split(27_380, "28c53b0a0fd3f32fb8078aca8e5b484e372790c6"),
                "val": Split(5_000, "a377ba0ca7bee37ee69d9f50f8362eaa35d9f690"),
                "test": Split(8_096, "2e8af159618f63be346b6527f155514323964423"),
            },
            about="crystals of the Materials Project, split by year",
            atoms=(1, 52),
            licence="CC-BY 4.0 (Materials Project)",
            reference="Jain et al., APL Mater. 1, 011002 (2013); splits by year: Jiao et al., NeurIPS 2023 (DiffCSP)",
        ),
        DataSet(
            name="perov_5",
            repository=CDVAE,
            commit=CDVAE_COMMIT,
            folder="data/perov_5",
            splits={
                "train": Split(11_356, "0769074b5d51d293b765c4371b8f55c468c9c9f2"),
                "val": Split(3_787),
                "test": Split(3_785),
            },
            about="perovskites ABX₃",
            atoms=(5, 5),
            licence="none stated",
            reference="Castelli et al., Energy Environ. Sci. 5, 5814 and 9034 (2012); splits: Xie et al., ICLR 2022",
        ),
        DataSet(
            name="carbon_24",
            repository=CDVAE,
            commit=CDVAE_COMMIT,
            folder="data/carbon_24",
            splits={
                "train": Split(6_091, "5e7ae970fbad8ddc46b6963e8cd6e425f11783a6"),
                "val": Split(2_032),
                "test": Split(2_030),
            },
            about="carbon, from random structure search at 10 GPa",
            atoms=(6, 24),
            licence="open access (Materials Cloud 2020.0026/v1)",
            reference="Pickard, Materials Cloud 2020.0026/v1; splits: Xie et al., ICLR 2022 (CDVAE)",
        ),
    )
}


def describe_data_sets() -> str:
    """Returns the table and the sources of all data sets as Markdown, for docs/reference/data.md."""
    rows = ["| name | crystals (train / val / test) | atoms per cell | what | licence |", "|---|---|---|---|---|"]
    sources = []
    for name, known in DATA_SETS.items():
        sizes = " / ".join(f"{split.n_crystals:,}" for split in known.splits.values()) or f"as `{known.grouped_from}`"
        atoms = " to ".join(str(count) for count in dict.fromkeys(known.atoms))
        rows.append(f"| `{name}` | {sizes} | {atoms} | {known.about} | {known.licence} |")
        page = f"https://github.com/{known.repository}/tree/{known.commit}/{known.folder}"
        link = f" From [{known.repository}]({page})." if known.repository else ""
        sources.append(f"* `{name}`: {known.reference}.{link}{f' {known.note}' if known.note else ''}")
    return "\n".join([*rows, "", "Sources, to be cited when you use them:", "", *sources, ""])


def group_of(formula: str) -> str:
    """Returns the split of a reduced formula in a grouped data set: 60, 20 and 20 % of the formulas.

    It depends only on a hash of the formula. The published splits of MP-20 separate polymorphs: 21 % of the test
    crystals have a formula of the training split (see arXiv:2509.12178).
    """
    share = int(hashlib.sha256(formula.encode()).hexdigest()[:8], 16) / 2**32
    return "train" if share < 0.6 else "val" if share < 0.8 else "test"


def compare_with_published(
    dataset: str, split: str, *, n_crystals: int, kind: str, git_blob_id: str, rows_sha256: str
) -> tuple[str, str]:
    """Returns whether a source is the published split ("yes", "no" or "unknown") and what to say beside its results.

    "yes": the file, or all its ids and CIF texts, are the published ones. "unknown": nothing is known to compare with.
    """
    known = DATA_SETS.get(dataset)
    if known is None or split not in known.splits:
        return "unknown", known.caveat if known else ""
    published = known.splits[split]
    if git_blob_id == published.git_blob_id or rows_sha256 == published.rows_sha256:
        return "yes", known.caveat
    if known.embedded or (kind == ".csv" and published.git_blob_id is None):
        return "unknown", known.caveat
    what = f"{dataset} {split}: {n_crystals:,} crystals, the published file has {published.n_crystals:,}"
    if kind == ".json":
        return "no", f"{what}; this source holds structures only, no properties"
    return "no", f"{what}; the files differ, so numbers are close to but not exactly comparable with published ones"


def join_caveats(*caveats: str) -> str:
    """Returns the caveats as one text that `read_caveats` takes apart again."""
    return SEPARATOR.join(filter(None, caveats))


def read_caveats(paths: Iterable[Path]) -> list[str]:
    """Returns the distinct caveats of these prepared splits, in order."""
    caveats: dict[str, None] = {}
    for path in paths:
        metadata = pq.read_schema(path).metadata or {}
        caveats.update(dict.fromkeys(filter(None, metadata.get(b"caveat", b"").decode().split(SEPARATOR))))
    return list(caveats)
