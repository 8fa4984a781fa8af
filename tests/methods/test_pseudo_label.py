import math
from dataclasses import replace

import pytest
import torch

from hilum.data.batch import Batch
from hilum.methods.pseudo_label import PseudoLabel, Settings, pseudo_labels
from hilum.methods.supervised import Supervised
from tests import toys

UNKNOWN = float("nan")


def pseudo_label(**settings) -> PseudoLabel:
    task = PseudoLabel(
        toys.encoder(), findings=toys.FINDINGS, **Settings.build(settings, "pseudo_label").model_dump()
    )
    with torch.no_grad():  # a head of zeros is sure of nothing
        for classifier in (task.student, task.model):
            classifier.head.weight.normal_(std=1, generator=torch.Generator().manual_seed(1))
    return task


def batch(*, labelled: int = 16) -> Batch:
    one = toys.ToyLoader(num_views=2).batch(0).to("cpu", toys.SPEC)
    labels = one.labels.clone()
    labels[labelled:] = UNKNOWN
    return replace(one, labels=labels)


def same(found: torch.Tensor, expected: list[list[float]]) -> bool:
    return torch.equal(found.nan_to_num(9), torch.tensor(expected).nan_to_num(9))


def test_findings_get_labels_where_they_are_unknown_and_the_teacher_is_sure():
    probabilities = torch.tensor([[0.95, 0.05], [0.9, 0.11], [0.95, 0.05], [0.89, 0.5]])
    labels = torch.tensor([[UNKNOWN, UNKNOWN], [UNKNOWN, UNKNOWN], [0.0, UNKNOWN], [UNKNOWN, 1.0]])
    found = pseudo_labels(probabilities, labels, threshold=0.9, exclusive=False)
    assert same(found, [[1, 0], [1, UNKNOWN], [UNKNOWN, 0], [UNKNOWN, UNKNOWN]])


def test_exclusive_findings_get_one_label_for_the_radiograph():
    probabilities = torch.tensor([[0.95, 0.02, 0.03], [0.6, 0.3, 0.1], [0.95, 0.02, 0.03]])
    labels = torch.tensor([[UNKNOWN] * 3, [UNKNOWN] * 3, [0.0, 1.0, 0.0]])
    found = pseudo_labels(probabilities, labels, threshold=0.9, exclusive=True)
    assert same(found, [[1, 0, 0], [UNKNOWN] * 3, [UNKNOWN] * 3])


@pytest.mark.parametrize("exclusive", [False, True])
def test_without_weight_or_without_the_unknown_the_loss_is_that_of_supervised_training(exclusive):
    known = torch.eye(2)[torch.arange(16) % 2]
    for settings, one in (
        ({"pseudo_weight": 0.0}, batch()),
        ({"ramp_up": 0.0, "threshold": 0.5}, replace(batch(), labels=known)),
    ):
        task = pseudo_label(exclusive=exclusive, **settings)
        other = Supervised(toys.encoder(), findings=toys.FINDINGS, exclusive=exclusive)
        weights = {f"model.{name}": w for name, w in task.student.state_dict().items()}
        other.load_state_dict(weights, strict=False)
        assert torch.allclose(task(one)["loss"], other(one)["loss"], rtol=1e-6)


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_loss_is_that_of_a_slow_formula(exclusive):
    task = pseudo_label(threshold=0.7, pseudo_weight=2, ramp_up=0, exclusive=exclusive)
    one = batch(labelled=6)
    terms = task(one)
    with torch.no_grad():
        student, teacher = task.student(one.views[0]).tolist(), task.model(one.views[1]).tolist()

    def probabilities(logits: list[float]) -> list[float]:
        if exclusive:
            return [math.exp(z) / sum(map(math.exp, logits)) for z in logits]
        return [1 / (1 + math.exp(-z)) for z in logits]

    known, pseudo, unknown, positive = [], [], 0, 0
    for mine, its, labels in zip(student, teacher, one.labels.tolist(), strict=True):
        p, q = probabilities(mine), probabilities(its)
        if exclusive:
            if 1 in labels:
                known.append(-sum(math.log(a) for a, y in zip(p, labels, strict=True) if y == 1))
                continue
            unknown += 1
            if max(q) >= 0.7:
                pseudo.append(-math.log(p[q.index(max(q))]))
                positive += 1
            continue
        for a, b, y in zip(p, q, labels, strict=True):
            if not math.isnan(y):
                known.append(-math.log(a if y else 1 - a))
                continue
            unknown += 1
            if b >= 0.7 or 1 - b >= 0.7:
                pseudo.append(-math.log(a if b >= 0.7 else 1 - a))
                positive += b >= 0.7
    assert 0 < len(pseudo) < unknown
    supervised, extra = sum(known) / len(known), sum(pseudo) / unknown
    assert float(terms["supervised"]) == pytest.approx(supervised, rel=1e-4)
    assert float(terms["pseudo"]) == pytest.approx(extra, rel=1e-4)
    assert float(terms["loss"].detach()) == pytest.approx(supervised + 2 * extra, rel=1e-4)
    assert float(terms["pseudo_labelled"]) == pytest.approx(len(pseudo) / unknown)
    cells = len(pseudo)
    assert float(terms["pseudo_positive"]) == pytest.approx(positive / cells)


def test_radiographs_without_labels_are_learnt_from_where_the_teacher_is_sure():
    task = pseudo_label(threshold=0.7, ramp_up=0).eval()  # BatchNorm would pass a gradient from row to row
    one = batch(labelled=6)
    view = one.views[0].requires_grad_()
    task(one)["loss"].backward()
    with torch.no_grad():
        sure = task.model.probabilities(task.model(one.views[1])[6:])
        sure = (torch.maximum(sure, 1 - sure) >= 0.7).any(1)
    reached = view.grad[6:].flatten(1).any(1)
    assert sure.any()
    assert torch.equal(reached, sure)


def test_gradients_reach_every_weight_of_the_student_and_none_of_the_teacher():
    task = pseudo_label()
    with torch.no_grad():
        for weight in task.student.parameters():
            if not weight.any():  # behind a branch that starts at zero no gradient passes
                weight += 0.5
    task(batch())["loss"].backward()
    assert all(weight.grad.any() for weight in task.student.parameters())
    assert not any(weight.requires_grad for weight in task.model.parameters())


def test_without_momentum_the_student_makes_its_own_labels():
    task = pseudo_label(momentum_teacher=0.0)
    with torch.no_grad():
        for weight in task.student.parameters():
            weight += 0.01
    task.before_step(0.3)
    for mine, its in zip(task.model.parameters(), task.student.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_batch_without_any_label_has_a_finite_gradient():
    task = pseudo_label(threshold=0.9, ramp_up=0)
    with torch.no_grad():
        task.model.head.weight.zero_()  # sure of nothing
    terms = task(batch(labelled=0))
    terms["loss"].backward()
    assert (
        float(terms["loss"].detach())
        == float(terms["pseudo_labelled"])
        == float(terms["pseudo_positive"])
        == 0
    )
    assert all(torch.isfinite(w.grad).all() for w in task.student.parameters())
