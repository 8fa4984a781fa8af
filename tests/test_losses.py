"""Each loss against a slow formula written from its definition."""

import math

import pytest
import torch

from hilum.errors import ConfigError
from hilum.losses import full_precision, info_nce, masked_bce, masked_cross_entropy, refuse_one
from hilum.methods.moco import moco_loss
from hilum.methods.simclr import nt_xent


def unit(rows: int, columns: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, columns, generator=random), dim=1)


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


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


NAN = float("nan")
LOGITS = torch.tensor([[0.3, -1.2, 0.1], [2.0, 0.5, 0.0], [-0.7, 0.2, 1.1]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, NAN, 0.0], [0.0, 1.0, NAN], [1.0, 1.0, 0.0]], dtype=torch.float64)
EXCLUSIVE = torch.tensor([[0.0, 1.0, 0.0], [NAN, NAN, NAN], [1.0, 0.0, 0.0]], dtype=torch.float64)
WEIGHT = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)


def test_a_positive_counts_as_often_as_its_weight_says():
    total, known = 0.0, 0
    for row, labels in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        for logit, label, weight in zip(row, labels, WEIGHT.tolist(), strict=True):
            if not math.isnan(label):
                probability = 1 / (1 + math.exp(-logit))
                total -= weight * math.log(probability) if label else math.log(1 - probability)
                known += 1
    assert float(masked_bce(LOGITS, LABELS, positive_weight=WEIGHT)) == pytest.approx(total / known)


def test_a_row_counts_as_often_as_the_weight_of_its_finding_says():
    total = 0.0
    for row, finding in ((0, 1), (2, 0)):
        logits = LOGITS[row].tolist()
        share = math.exp(logits[finding]) / sum(math.exp(logit) for logit in logits)
        total -= float(WEIGHT[finding]) * math.log(share)
    assert float(masked_cross_entropy(LOGITS, EXCLUSIVE, weight=WEIGHT)) == pytest.approx(total / 2)


def test_weights_of_one_change_nothing():
    one = torch.ones(3)
    assert masked_bce(LOGITS, LABELS, positive_weight=one) == masked_bce(LOGITS, LABELS)
    assert masked_cross_entropy(LOGITS, EXCLUSIVE, weight=one) == masked_cross_entropy(LOGITS, EXCLUSIVE)


def test_an_untrained_head_has_the_entropy_of_a_coin_or_of_a_die():
    assert float(masked_bce(torch.zeros(3, 3), LABELS)) == pytest.approx(math.log(2))
    assert float(masked_cross_entropy(torch.zeros(3, 3), EXCLUSIVE)) == pytest.approx(math.log(3))


def test_gradients_are_those_of_finite_differences():
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: masked_bce(x, LABELS, positive_weight=WEIGHT), logits)
    assert torch.autograd.gradcheck(lambda x: masked_cross_entropy(x, EXCLUSIVE, weight=WEIGHT), logits)
    z, key = unit(3, 4, 0).double().requires_grad_(), unit(5, 4, 1).double().requires_grad_()
    positive, itself = torch.tensor([1, 2, 4]), torch.tensor([0, 1, 2])
    assert torch.autograd.gradcheck(
        lambda q, k: info_nce(q, k, positive, temperature=0.5, itself=itself), (z, key)
    )


def test_labels_of_nan_get_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    masked_bce(logits, LABELS).backward()
    assert torch.equal(logits.grad == 0, LABELS.isnan())


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_full_precision_widens_and_never_narrows(given, computed):
    same = full_precision(lambda x, *, weight: x * weight)
    assert same(torch.ones(1, dtype=given), weight=torch.ones(1, dtype=given)).dtype == computed


def test_one_radiograph_is_refused_with_a_way_out():
    refuse_one(2)
    with pytest.raises(ConfigError, match=r"holds 1 radiograph.*--batch-size.*--accumulate"):
        refuse_one(1)
