import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.methods.simclr import nt_xent
from hilum.methods.supcon import SupCon, positive_weights, supcon_loss
from hilum.train.parallel import mean_over_processes, rank, synchronised, world
from tests import toys
from tests.processes import in_two_processes
from tests.test_losses import dot, unit

NAN = float("nan")
SHARED = ("identical", "any", "jaccard", "per_finding")
FILMS = torch.tensor(
    [
        [1, 0, 1, 0],
        [1, 0, 1, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [NAN, 0, 1, NAN],
        [NAN, NAN, NAN, NAN],
        [NAN, NAN, NAN, 1],
    ]
)


def weights_of(labels: torch.Tensor, shared: str) -> torch.Tensor:
    return positive_weights(labels, labels, itself=torch.arange(len(labels)), shared=shared)


def slow_weight(a: list[float], b: list[float], shared: str) -> float:
    counted = [(x, y) for x, y in zip(a, b, strict=True) if not math.isnan(x) and not math.isnan(y)]
    both = sum(x == 1 and y == 1 for x, y in counted)
    either = sum(x == 1 or y == 1 for x, y in counted)
    if shared == "identical":
        return float(bool(counted) and all(x == y for x, y in counted))
    if shared == "any":
        return float(both > 0)
    if not counted:
        return 0.0
    return both / either if either else 1.0


def slow_loss(
    za: torch.Tensor,
    zb: torch.Tensor,
    weights: list[list[float]],
    *,
    temperature: float,
    base_temperature: float,
    mode: str = "all",
) -> float:
    """Equation 2 of the paper, view by view."""
    count, z, total = len(za), [*za, *zb], 0.0
    anchors = range(2 * count if mode == "all" else count)
    for i in anchors:
        rest = [a for a in range(2 * count) if a != i]
        denominator = sum(math.exp(dot(z[i], z[a]) / temperature) for a in rest)
        pull, weight = 0.0, 0.0
        for p in rest:
            w = weights[i % count][p % count]
            pull += w * math.log(math.exp(dot(z[i], z[p]) / temperature) / denominator)
            weight += w
        total -= temperature / base_temperature * pull / weight if weight else 0.0
    return total / len(anchors)


def supcon(shared: str = "identical", contrast_mode: str = "all") -> SupCon:
    return SupCon(
        toys.encoder(),
        temperature=0.1,
        base_temperature=0.07,
        projector_sizes=[16, 8],
        contrast_mode=contrast_mode,
        shared=shared,
    )


def batch(size: int = 8) -> Batch:
    found = toys.ToyLoader(num_views=2, batch_size=size).batch(0).to("cpu", toys.SPEC)
    return replace(found, labels=FILMS[:size])


@pytest.mark.parametrize("shared", SHARED[:3])
@pytest.mark.parametrize("mode", ["all", "one"])
def test_the_loss_is_equation_2(shared, mode):
    za, zb = unit(8, 5, 0).double(), unit(8, 5, 1).double()
    weights = [
        [1.0 if i == k else slow_weight(a, b, shared) for k, b in enumerate(FILMS.tolist())]
        for i, a in enumerate(FILMS.tolist())
    ]
    assert torch.allclose(weights_of(FILMS, shared), torch.tensor(weights))
    expected = slow_loss(za, zb, weights, temperature=0.2, base_temperature=0.07, mode=mode)
    found = supcon_loss(
        za,
        zb,
        weights=weights_of(FILMS, shared).double(),
        temperature=0.2,
        base_temperature=0.07,
        contrast_mode=mode,
    )
    assert float(found) == pytest.approx(expected)


def test_per_finding_is_the_mean_of_a_loss_for_each_finding():
    za, zb = unit(8, 5, 0).double(), unit(8, 5, 1).double()
    losses = []
    for finding in range(4):
        one = FILMS[:, finding].tolist()  # NaN equals nothing, itself neither
        weights = [[float(i == k or a == b) for k, b in enumerate(one)] for i, a in enumerate(one)]
        losses.append(slow_loss(za, zb, weights, temperature=0.2, base_temperature=0.2))
    found = supcon_loss(
        za, zb, weights=weights_of(FILMS.double(), "per_finding"), temperature=0.2, base_temperature=0.2
    )
    assert float(found) == pytest.approx(sum(losses) / 4)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_without_weights_the_loss_is_nt_xent(temperature):
    za, zb = unit(6, 5, 0).double(), unit(6, 5, 1).double()
    found = supcon_loss(za, zb, temperature=temperature, base_temperature=temperature)
    assert torch.allclose(found, nt_xent(za, zb, temperature=temperature), rtol=1e-12)
    as_mask = supcon_loss(
        za, zb, temperature=temperature, base_temperature=temperature, weights=torch.eye(6).double()
    )
    assert torch.equal(found, as_mask)


def test_without_weights_the_loss_is_lightlys_nt_xent():
    from lightly import loss

    za, zb = unit(6, 5, 0), unit(6, 5, 1)
    found = supcon_loss(za, zb, temperature=0.1, base_temperature=0.1)
    assert torch.allclose(found, loss.NTXentLoss(temperature=0.1)(za, zb), rtol=1e-5)


def test_the_mask_may_be_asymmetric():
    za, zb = unit(4, 5, 0).double(), unit(4, 5, 1).double()
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]).double()
    expected = slow_loss(za, zb, mask.tolist(), temperature=0.3, base_temperature=0.1)
    found = supcon_loss(za, zb, weights=mask, temperature=0.3, base_temperature=0.1)
    assert float(found) == pytest.approx(expected)
    other = supcon_loss(za, zb, weights=mask.T, temperature=0.3, base_temperature=0.1)
    assert float(other) != pytest.approx(expected)


def test_an_anchor_that_nothing_attracts_adds_nothing_and_counts_in_the_mean():
    za, zb = unit(2, 5, 0), unit(2, 5, 1)
    alone = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    whole = supcon_loss(za, zb, temperature=0.2, base_temperature=0.2)
    half = supcon_loss(za, zb, weights=alone, temperature=0.2, base_temperature=0.2)
    rest = supcon_loss(za, zb, weights=torch.eye(2) - alone, temperature=0.2, base_temperature=0.2)
    assert torch.allclose(half + rest, whole)
    za.requires_grad_()
    none = supcon_loss(za, zb, weights=torch.zeros(2, 2), temperature=0.2, base_temperature=0.2)
    none.backward()
    assert float(none.detach()) == 0
    assert not za.grad.any()


def test_equal_embeddings_are_at_chance_whatever_attracts():
    same = unit(1, 5, 0).repeat(8, 1)
    for shared in SHARED:
        found = supcon_loss(
            same, same, weights=weights_of(FILMS, shared), temperature=0.1, base_temperature=0.1
        )
        assert float(found) == pytest.approx(math.log(15), rel=1e-5)


def test_two_tight_groups_reach_the_known_floor():
    labels = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    floor = math.log(3 + 4 * math.exp(-2 / 0.5))  # three keys at similarity 1, four at -1
    found = supcon_loss(z, z, weights=weights_of(labels, "identical"), temperature=0.5, base_temperature=0.5)
    assert float(found) == pytest.approx(floor)


def test_the_base_temperature_scales_the_loss():
    za, zb = unit(4, 5, 0), unit(4, 5, 1)
    one, two = (supcon_loss(za, zb, temperature=0.1, base_temperature=base) for base in (0.1, 0.2))
    assert torch.allclose(one, 2 * two)


@pytest.mark.parametrize("mode", ["all", "one"])
def test_the_gradient_is_that_of_finite_differences(mode):
    za, zb = (unit(4, 3, seed).double().requires_grad_() for seed in (0, 1))
    weights = weights_of(FILMS[:4].double(), "jaccard")
    assert torch.autograd.gradcheck(
        lambda a, b: supcon_loss(
            a, b, weights=weights, temperature=0.3, base_temperature=0.1, contrast_mode=mode
        ),
        (za, zb),
    )


def test_one_label_gives_the_positives_of_the_paper():
    label = torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]])
    same = (label == label.T).float()
    assert torch.equal(weights_of(label, "identical"), same)
    assert torch.equal(weights_of(label, "jaccard"), same)


def test_what_is_shared_between_known_findings():
    a, b, c = [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]
    films = torch.tensor([a, b, c])
    assert weights_of(films, "identical").tolist() == torch.eye(3).tolist()
    assert weights_of(films, "any")[0].tolist() == [1, 1, 0]
    assert weights_of(films, "jaccard")[0].tolist() == pytest.approx([1, 1 / 3, 0])
    # Of 2, of 2, of 2 and of 3 films, two views each, the anchor itself left out.
    assert weights_of(films, "per_finding")[0].tolist() == pytest.approx(
        [(1 / 3 + 1 / 1 + 1 / 3 + 1 / 5) / 4, (1 / 3 + 1 / 5) / 4, (1 / 3 + 1 / 5) / 4]
    )


@pytest.mark.parametrize("shared", SHARED)
def test_a_radiograph_without_any_known_label_pairs_with_its_own_other_view_alone(shared):
    weights = weights_of(FILMS, shared)
    assert (weights[6] > 0).tolist() == [place == 6 for place in range(8)]
    assert (weights[:, 6] > 0).tolist() == [place == 6 for place in range(8)]


def test_an_unknown_finding_makes_no_pair_and_prevents_none():
    films = torch.tensor([[1.0, 0.0], [1.0, NAN], [NAN, 0.0], [NAN, 1.0]])
    assert weights_of(films, "identical").tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [0, 0, 0, 1],
    ]
    assert weights_of(films, "any")[:, 0].tolist() == [1, 1, 0, 0]
    assert weights_of(films, "jaccard")[0].tolist() == [1, 1, 1, 0]


def test_radiographs_without_labels_are_trained_on_as_simclr_does():
    task = supcon().eval()
    task.base_temperature = task.temperature
    unknown = replace(batch(), labels=torch.full_like(FILMS, NAN))
    za, zb = (torch.nn.functional.normalize(task.project(task.model(view)), dim=1) for view in unknown.views)
    terms = task(unknown)
    assert SupCon.unlabelled
    assert torch.allclose(terms["loss"], nt_xent(za, zb, temperature=task.temperature), rtol=1e-5)
    assert terms["positives"] == 0


def test_the_number_of_positives_is_logged():
    assert float(supcon("any")(batch())["positives"]) == pytest.approx((3 + 3 + 2 + 0 + 0 + 2 + 0 + 0) / 8)


def test_the_projector_is_an_mlp_or_linear_and_has_no_batchnorm():
    assert [type(layer).__name__ for layer in supcon().project] == ["Linear", "ReLU", "Linear"]


def test_a_batch_of_one_radiograph_is_refused():
    with pytest.raises(ConfigError, match="1 radiograph"):
        supcon()(batch(1))


def in_one_of_two(folder: Path) -> None:
    found = {}
    for variant in VARIANTS:
        task = supcon(*variant)
        forward = synchronised(task)
        terms = forward(batch().part(rank(), world()))
        terms["loss"].backward()
        name = "-".join(variant)
        found |= {name + " " + term: mean_over_processes(value) for term, value in terms.items()}
        found |= {name + " " + n: w.grad for n, w in task.named_parameters()}
    if rank() == 0:
        torch.save(found, folder / "found.pt")


VARIANTS = [*((shared, "all") for shared in SHARED), ("jaccard", "one")]


def test_two_processes_find_each_others_positives(tmp_path):
    in_two_processes(in_one_of_two, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for variant in VARIANTS:
        task = supcon(*variant)
        terms = task(batch())
        terms["loss"].backward()
        alone = {name: value.detach() for name, value in terms.items()}
        alone |= {name: weight.grad for name, weight in task.named_parameters()}
        for name, value in alone.items():
            near = torch.allclose(
                found[f"{'-'.join(variant)} {name}"], value, rtol=1e-3, atol=1e-4 * float(value.abs().max())
            )
            assert near, (variant, name)
