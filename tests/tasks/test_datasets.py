"""Texts and rows of numbers: drawn ones, and the readers of IMDb and QM9 on small files of their form."""

import io
import tarfile

import numpy as np
import pytest
import torch

from grok.tasks import tabular, texts

METHANE = """5
gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 0.0002765748\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 9.063972942*^-1\t 0.133923
1341.307
C\tC
InChI=1S/CH4/h1H4
"""  # the first molecule of QM9, one number in its other spelling


def test_drawn_sequences_differ_by_class_and_not_by_split():
    found = texts.sequences(4000, 4000, seed=3)
    again = texts.sequences(4000, 4000, seed=3)
    assert torch.equal(found["train_tokens"], again["train_tokens"])
    frequency = {
        (split, kind): torch.bincount(
            found[f"{split}_tokens"][found[f"{split}_labels"] == kind].flatten(), minlength=200
        ).double()
        for split in ("train", "test")
        for kind in (0, 1)
    }
    share = {key: counts / counts.sum() for key, counts in frequency.items()}
    for kind in (0, 1):
        near = (share["train", kind] - share["test", kind]).abs().sum()
        far = (share["train", kind] - share["test", 1 - kind]).abs().sum()
        assert near < 0.1 < 0.3 < far


def test_the_frequencies_of_tokens_are_not_in_the_first_random_weights():
    """The embedding is what a network of the same seed draws first: with one stream for both, two of its
    coordinates told the class of a token."""
    found = texts.sequences(4000, 0, seed=3)
    of_class = found["train_tokens"][found["train_labels"] == 0].flatten()
    counts = torch.bincount(of_class, minlength=200).clamp(min=1).double()
    first = torch.randn(400, generator=torch.Generator().manual_seed(3)).double()[:200]
    assert abs(torch.corrcoef(torch.stack([counts.log(), first]))[0, 1]) < 0.25


def test_imdb_is_read_from_folders_and_from_a_table(tmp_path):
    reviews = {"pos": "A good, good film", "neg": "A bad film"}
    for split in ("train", "test"):
        for kind, review in reviews.items():
            for number in range(5):
                path = tmp_path / "aclImdb" / split / kind / f"{number}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(review)
    table = tmp_path / "table"
    table.mkdir()
    lines = ["review,sentiment", *['"A good, good film",positive', "A bad film,negative"] * 10]
    (table / "IMDB Dataset.csv").write_text("\n".join(lines))
    for folder in (tmp_path / "aclImdb", table):
        found = texts.imdb(12, 8, 0, folder)
        assert found["train_tokens"].shape == (12, 500) and found["test_tokens"].shape == (8, 500)
        tokens = torch.cat([found["train_tokens"], found["test_tokens"]])
        labels = torch.cat([found["train_labels"], found["test_labels"]])
        assert labels.sum() == 10
        assert ((tokens > 0).sum(1) == torch.where(labels == 1, 4, 3)).all()
        assert all(row[1] == row[2] for row in tokens[labels == 1])  # good, good
    with pytest.raises(OSError, match="20 of IMDb's reviews, and 40"):
        texts.imdb(30, 10, 0, table)


def test_qm9_is_read_from_an_archive_with_rupps_eigenvalues(tmp_path):
    values, polarizability = tabular._molecule(METHANE)
    assert polarizability == 13.21
    bond = 1.0919  # of C and H, in the geometry above
    apart = bond * np.sqrt(8 / 3)  # two H of a tetrahedron
    coulomb = np.full((5, 5), 1 / apart)
    coulomb[0], coulomb[:, 0] = 6 / bond, 6 / bond
    np.fill_diagonal(coulomb, [6**2.4 / 2, 0.5, 0.5, 0.5, 0.5])
    assert values[:5] == pytest.approx(sorted(np.linalg.eigvalsh(coulomb), key=abs)[::-1], abs=1e-2)
    assert not values[5:].any()
    with tarfile.open(tmp_path / "dsgdb9nsd.xyz.tar.bz2", "w:bz2") as archive:
        for number in range(6):
            text = METHANE.replace("13.21", f"{13 + number}.0").encode()
            entry = tarfile.TarInfo(f"dsgdb9nsd_{number:06d}.xyz")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    found = tabular.qm9(4, 2, 0, tmp_path)
    assert found["train_inputs"].shape == (4, 29)
    targets = torch.cat([found["train_targets"], found["test_targets"]]).flatten()
    gaps = targets.sort().values.diff()
    assert torch.allclose(gaps, gaps[0])  # 13, 14, .. 18, standardized
    with pytest.raises(OSError, match="6 of QM9's"):
        tabular.qm9(10, 2, 0, tmp_path)


def test_diabetes_is_standardized_by_the_train_rows_alone():
    found = tabular.diabetes(100, seed=1)
    assert found["test_inputs"].shape == (342, 10)
    for name in ("inputs", "targets"):
        assert torch.allclose(found[f"train_{name}"].mean(0), torch.zeros(1).double(), atol=1e-12)
        assert torch.allclose(found[f"train_{name}"].std(0, unbiased=False), torch.ones(1).double())
