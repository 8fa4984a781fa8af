"""Each loss against a slow formula written from its definition."""

import math

import torch

from hilum.losses import info_nce, masked_bce, masked_cross_entropy
from hilum.methods.barlow_twins import barlow_terms
from hilum.methods.moco import moco_loss
from hilum.methods.simclr import nt_xent


def unit(rows: int, columns: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, columns, generator=random), dim=1)


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def test_nt_xent_is_equation_1_of_simclr():
    za, zb, temperature = unit(5, 7, 0), unit(5, 7, 1), 0.3
    z = [*za, *zb]
    total = 0.0
    for i in range(10):
        j = (i + 5) % 10
        others = sum(math.exp(dot(z[i], z[k]) / temperature) for k in range(10) if k != i)
        total += -math.log(math.exp(dot(z[i], z[j]) / temperature) / others)
    assert math.isclose(float(nt_xent(za, zb, temperature=temperature)), total / 10, rel_tol=1e-5)


def test_moco_loss_is_equation_1_of_moco():
    query, key, queue, temperature = unit(4, 6, 0), unit(4, 6, 1), unit(9, 6, 2), 0.2
    total = 0.0
    for i in range(4):
        positive = math.exp(dot(query[i], key[i]) / temperature)
        total += -math.log(
            positive / (positive + sum(math.exp(dot(query[i], k) / temperature) for k in queue))
        )
    assert math.isclose(float(moco_loss(query, key, queue, temperature=temperature)), total / 4, rel_tol=1e-5)


def test_moco_loss_of_perfect_pairs_and_random_negatives_has_the_known_floor():
    queue = torch.zeros(65536, 8)  # orthogonal to every query
    query = unit(2, 8, 0)
    assert math.isclose(
        float(moco_loss(query, query, queue, temperature=0.2)),
        math.log(1 + 65536 * math.exp(-5)),
        rel_tol=1e-4,
    )


def test_barlow_terms_are_the_sums_of_equation_1():
    random = torch.Generator().manual_seed(0)
    za, zb = torch.randn(6, 4, generator=random), torch.randn(6, 4, generator=random)

    def standard(z: torch.Tensor) -> list[list[float]]:
        columns = []
        for d in range(4):
            column = z[:, d].tolist()
            mean = sum(column) / 6
            variance = sum((x - mean) ** 2 for x in column) / 6
            columns.append([(x - mean) / math.sqrt(variance + 1e-5) for x in column])
        return columns

    a, b = standard(za), standard(zb)
    c = [[sum(x * y for x, y in zip(a[i], b[j], strict=True)) / 6 for j in range(4)] for i in range(4)]
    invariance = sum((c[i][i] - 1) ** 2 for i in range(4))
    redundancy = sum(c[i][j] ** 2 for i in range(4) for j in range(4) if i != j)
    found = barlow_terms(za, zb)
    assert math.isclose(float(found[0]), invariance, rel_tol=1e-5)
    assert math.isclose(float(found[1]), redundancy, rel_tol=1e-5)


def test_masked_bce_is_the_mean_over_known_labels_only():
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.5]])
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    terms = [math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(2.0)), math.log(1 + math.exp(-0.5))]
    assert math.isclose(float(masked_bce(logits, labels)), sum(terms) / 3, rel_tol=1e-6)


def test_masked_cross_entropy_skips_rows_without_a_class():
    logits = torch.tensor([[0.3, -1.2, 0.1], [2.0, 0.5, 0.0]])
    labels = torch.tensor([[0.0, 1.0, 0.0], [float("nan")] * 3])
    expected = -(-1.2 - math.log(math.exp(0.3) + math.exp(-1.2) + math.exp(0.1)))
    assert math.isclose(float(masked_cross_entropy(logits, labels)), expected, rel_tol=1e-6)


def test_a_batch_without_labels_gives_no_loss_and_no_gradient():
    logits = torch.zeros(2, 3, requires_grad=True)
    for loss in (masked_bce, masked_cross_entropy):
        value = loss(logits, torch.full((2, 3), float("nan")))
        value.backward()
        assert value == 0
        assert not logits.grad.any()


def test_losses_are_computed_in_float32_under_bfloat16():
    za, zb = unit(8, 16, 0), unit(8, 16, 1)
    exact = nt_xent(za, zb, temperature=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(za, zb, temperature=0.1), exact)


def test_info_nce_leaves_a_query_itself_out():
    z = unit(3, 4, 0)
    itself = torch.arange(3)
    loss = info_nce(z, z, torch.tensor([1, 2, 0]), temperature=1.0, itself=itself)
    total = 0.0
    for i, j in ((0, 1), (1, 2), (2, 0)):
        total += -math.log(
            math.exp(dot(z[i], z[j])) / sum(math.exp(dot(z[i], z[k])) for k in range(3) if k != i)
        )
    assert math.isclose(float(loss), total / 3, rel_tol=1e-5)
