import math

import pytest
import torch

from hilum.data.views import CXR_VIEW
from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.methods import dino
from hilum.methods.dino import DINO, Settings, cross_entropy, health, sharpened, view_loss
from hilum.models.encoder import Encoder
from hilum.models.masked import Hidden, block_places, masked_tokens, pooled
from hilum.models.student import PrototypeHead, without_dropout
from tests import toys

SMALL = {"projector_sizes": [32, 16], "num_prototypes": 64, "num_local": 2}
LIGHTLY = pytest.mark.filterwarnings("ignore")


def task_with(encoder: Encoder | None = None, **settings) -> DINO:
    torch.manual_seed(0)
    return DINO(encoder or toys.encoder(), **Settings(**SMALL | settings).model_dump())


def ibot(**settings) -> DINO:
    return task_with(toys.encoder(patches=True), patch_weight=1, **settings)


def batch_for(task: DINO, step: int = 0):
    return toys.ToyLoader.of(task).batch(step).to("cpu", task.input)


def probabilities(row: torch.Tensor, temperature: float) -> list[float]:
    powers = [math.exp(float(x) / temperature) for x in row]
    return [power / sum(powers) for power in powers]


def slow_entropy(targets: list[float], student: torch.Tensor, temperature: float) -> float:
    return -sum(t * math.log(s) for t, s in zip(targets, probabilities(student, temperature), strict=True))


def test_the_loss_is_algorithm_1_over_all_crops():
    student, teacher, centre = torch.rand(5, 3, 7), torch.rand(2, 3, 7), torch.rand(7)
    terms = [
        slow_entropy(probabilities(teacher[t, b] - centre, 0.04), student[s, b], 0.1)
        for t in range(2)
        for s in range(5)
        if s != t
        for b in range(3)
    ]
    targets = sharpened(teacher, centre, torch.tensor(0.04))
    loss = view_loss(student, targets, temperature=0.1)
    assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_kl_is_what_the_loss_adds_to_the_teacher_s_entropy():
    student, targets = torch.rand(4, 3, 7), torch.rand(2, 3, 7).softmax(-1)
    divergences = [
        sum(
            float(p) * math.log(float(p) / q)
            for p, q in zip(targets[t, b], probabilities(student[s, b], 0.1), strict=True)
        )
        for t in range(2)
        for s in range(4)
        if s != t
        for b in range(3)
    ]
    signs = health(targets, view_loss(student, targets, temperature=0.1))
    assert float(signs["kl"]) == pytest.approx(sum(divergences) / len(divergences), rel=1e-4)


def test_one_prototype_and_all_prototypes_are_told_apart():
    one, none = torch.eye(8)[:1].expand(2, 3, 8), torch.full((2, 3, 8), 1 / 8)
    zero = torch.tensor(0.0)
    assert {name: round(float(x), 4) for name, x in health(one, zero).items()} == {
        "teacher_entropy": 0,
        "kl": 0,
        "prototypes_used": 1,
    }
    assert float(health(none, zero)["prototypes_used"]) == pytest.approx(8)
    assert float(health(none, zero)["teacher_entropy"]) == pytest.approx(math.log(8))


@LIGHTLY
def test_the_losses_and_the_centre_agree_with_lightly():
    from lightly.loss import DINOLoss, IBOTPatchLoss

    theirs = DINOLoss(output_dim=7, teacher_temp=0.05, student_temp=0.1, center_momentum=0.9)
    centre, temperature = torch.zeros(7), torch.tensor(0.05)
    for _ in range(3):
        student, teacher = torch.randn(5, 4, 7), torch.randn(2, 4, 7)
        expected = theirs(list(teacher), list(student))
        ours = view_loss(student, sharpened(teacher, centre, temperature), temperature=0.1)
        assert torch.allclose(ours, expected, rtol=1e-4)
        centre.lerp_(teacher.mean((0, 1)), 1 - 0.9)
        assert torch.allclose(centre, theirs.center.flatten(), atol=1e-6)
    patches = IBOTPatchLoss(output_dim=7, teacher_temp=0.05, student_temp=0.1)
    hidden = Hidden.draw(torch.rand(4, 13), edge=4, count=5)
    mask = hidden.mask()[hidden.rows].view(4, 4, 4)
    student, teacher = torch.randn(20, 7), torch.randn(20, 7)
    expected = patches(teacher, student, mask)
    targets = sharpened(teacher, torch.zeros(7), temperature)
    assert torch.allclose(cross_entropy(student, targets, temperature=0.1).mean(), expected, rtol=1e-4)


def test_the_centre_moves_after_it_was_used_and_stands_still_in_evaluation():
    task = task_with(momentum_centre=0.75).train()
    batch = batch_for(task)
    with torch.no_grad():
        outputs = task.teacher_head(task.model(torch.cat(batch.views[:2]))).mean(0)
    task.centres.fill_(0.5)
    terms = task(batch)
    assert torch.allclose(task.centres[0], 0.75 * 0.5 + 0.25 * outputs, atol=1e-5)
    assert torch.equal(task.centres[1], torch.full((64,), 0.5))  # of patches, which are not looked at
    again = task_with(momentum_centre=0.75).train()
    again.centres.fill_(0.5)
    again.momentum_centre = 1.0
    assert torch.equal(again(batch)["loss"], terms["loss"])
    before = task.centres.clone()
    task.eval()(batch)
    assert torch.equal(task.centres, before)


def test_the_centre_is_that_of_all_processes(monkeypatch):
    alone, first, second = ibot(), ibot(), ibot()
    batch = batch_for(alone)
    alone(batch)
    means: list[torch.Tensor] = []
    monkeypatch.setattr(dino, "mean_over_processes", lambda value: means.append(value) or value)
    second(batch.part(1, 2))
    others = iter(list(means))
    monkeypatch.setattr(dino, "mean_over_processes", lambda value: (value + next(others)) / 2)
    first(batch.part(0, 2))
    assert torch.allclose(first.centres, alone.centres, atol=1e-6)
    assert alone.centres.any(1).all()


def test_momentum_temperature_and_freezing_follow_progress():
    task = task_with(
        momentum_teacher=0.5,
        teacher_temperature_start=0.04,
        teacher_temperature=0.08,
        temperature_warmup=0.5,
        freeze_prototypes=0.1,
    )
    seen = []
    for progress in (0.0, 0.05, 0.25, 0.5, 1.0):
        task.before_step(progress)
        seen.append((round(float(task.temperature), 6), task.student_head.frozen))
    assert seen == [(0.04, True), (0.044, True), (0.06, False), (0.08, False), (0.08, False)]


def test_the_teacher_is_the_moving_average_and_gets_no_gradient():
    task = task_with(momentum_teacher=0.75)
    before = task.model.net.conv1[0].weight.clone()
    with torch.no_grad():
        for weight in task.student.parameters():
            weight += 1
    task.before_step(0.0)
    assert torch.allclose(task.model.net.conv1[0].weight, before + 0.25)
    task(batch_for(task))["loss"].backward()
    for part in (task.model, task.teacher_head):
        assert all(weight.grad is None and not weight.requires_grad for weight in part.parameters())


@pytest.mark.parametrize("make", [task_with, ibot])
def test_every_weight_of_the_student_gets_a_gradient(make):
    task = make(freeze_prototypes=0)
    with torch.no_grad():
        for weight in task.student.parameters():
            if not weight.any():  # behind a branch that starts at zero no gradient passes
                weight += 0.5
    task(batch_for(task))["loss"].backward()
    trained = {name: weight for name, weight in task.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()] == []
    assert ("mask_token" in trained) is (make is ibot)


def test_a_frozen_prototype_keeps_its_direction_under_weight_decay():
    head = PrototypeHead([8, 4], num_prototypes=5)
    before = torch.nn.functional.normalize(head.prototypes.detach().clone(), dim=1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.1)
    for frozen in (True, False):
        head.frozen = frozen
        head(torch.randn(6, 8)).square().sum().backward()
        assert head.prototypes.grad is not None
        optimizer.step()
        optimizer.zero_grad()
        after = torch.nn.functional.normalize(head.prototypes.detach(), dim=1)
        assert torch.allclose(after, before, atol=1e-6) is frozen


@torch.no_grad()
def test_outputs_are_cosines_in_single_precision():
    head = PrototypeHead([8, 16, 4], num_prototypes=5)
    x = torch.randn(6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(x).dtype == torch.float32
    inner = head.narrow(x)
    for b in range(6):
        for k in range(5):
            z, w = inner[b], head.prototypes[k]
            assert float(head(x)[b, k]) == pytest.approx(float(z @ w / (z.norm() * w.norm())), abs=1e-5)


def test_the_student_sees_all_crops_and_the_teacher_the_large_ones():
    task = task_with(Encoder("test_vit", InputSpec(side=112)), num_local=3)
    recipe = task.recipe(CXR_VIEW, CXR_VIEW.change(crop_min=0.6))
    assert recipe.sides == (112, 112, 48, 48, 48)
    assert [view.geometry.crop_min for view in recipe.views] == [0.5, 0.6, 0.1, 0.1, 0.1]
    assert [view.geometry.crop_max for view in recipe.views] == [1, 1, 0.4, 0.4, 0.4]
    assert recipe.views[2].tone == CXR_VIEW.tone
    sizes: dict[str, list[tuple[int, ...]]] = {"student": [], "model": []}
    for name, seen in sizes.items():
        encoder = getattr(task, name)
        encoder.net.patch_embed.register_forward_hook(lambda _, x, out, seen=seen: seen.append(x[0].shape))
    task(batch_for(task))
    assert sizes == {"student": [(32, 1, 112, 112), (48, 1, 48, 48)], "model": [(32, 1, 112, 112)]}


@pytest.mark.parametrize(("arch", "side", "local"), [("resnet18", 224, 96), ("convstem_vit_192", 224, 96)])
def test_small_crops_are_three_sevenths_of_the_image(arch, side, local):
    assert task_with(Encoder(arch, InputSpec(side=side))).local_side == local


def test_without_small_crops_the_two_views_tell_each_other():
    task = task_with(num_local=0)
    assert len(task.recipe(CXR_VIEW, CXR_VIEW).views) == 2
    assert torch.isfinite(task(batch_for(task))["loss"])


@pytest.mark.parametrize(
    ("arch", "settings", "message"),
    [
        ("test_resnet", {"patch_weight": 1}, "is no ViT and has none; take --patch-weight 0"),
        ("test_vit", {"local_side": 40}, "cannot see local crops of 40 pixels.*take 32"),
        ("test_vit", {"patch_weight": 1, "mask_ratio": 0.01}, "mask_ratio 0.01 hides 0 of 16"),
        ("swin_tiny_patch4_window7_224", {}, "swin_tiny_patch4_window7_224 cannot see local crops of 32"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused_by_name(arch, settings, message):
    with pytest.raises(ConfigError, match=message):
        task_with(Encoder(arch, toys.PATCHES), **settings)


def test_a_scorer_of_more_patches_than_a_small_crop_has_is_refused():
    with pytest.raises(ConfigError, match=r"local crops of 32 pixels: top_k is 5.*--num-local 0"):
        task_with(Encoder("test_vit", toys.PATCHES, pool="top_k", top_k=5))


def test_concatenated_patches_cannot_share_the_head_of_one():
    encoder = Encoder("test_vit", toys.PATCHES, pool="top_k", top_k=2, combine="concatenate")
    with pytest.raises(ConfigError, match="embeddings have 128 features, patches 64"):
        task_with(encoder, patch_weight=1)


def test_the_smallest_crop_is_not_above_the_largest():
    with pytest.raises(ConfigError, match=r"local_crop_min 0\.5 is above local_crop_max 0\.4"):
        Settings.build({"local_crop_min": 0.5}, "pretrain dino")


@pytest.mark.parametrize("arch", ["test_vit", "test_vit2", "convstem_vit_192"])
def test_a_token_stands_for_a_masked_patch_wherever_it_is_in_the_image(arch):
    torch.manual_seed(0)
    encoder = Encoder(arch, InputSpec(side=64)).eval()
    images, token = torch.randn(2, 1, 64, 64), torch.randn(encoder.num_channels)
    plain = encoder.tokens(images)
    num_patches = plain[1].shape[1]
    none = masked_tokens(encoder, images, torch.zeros(2, num_patches, dtype=torch.bool), token)
    assert all(torch.equal(a, b) for a, b in zip(none, plain, strict=True))
    every = torch.ones(2, num_patches, dtype=torch.bool)
    _, patches = masked_tokens(encoder, images, every, token)
    assert torch.allclose(patches[0], patches[1], atol=1e-5)  # nothing of the images is left
    assert not torch.allclose(patches[0, 0], patches[0, 1], atol=1e-3)  # but positions are


@pytest.mark.parametrize("pool", [{}, {"pool": "token"}, {"pool": "top_k", "top_k": 3}])
def test_tokens_are_pooled_as_the_encoder_pools(pool):
    encoder = Encoder("test_vit", toys.PATCHES, **pool).eval()
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(pooled(encoder, *encoder.tokens(images)), encoder(images))


def test_hidden_patches_lie_in_one_view_of_each_radiograph():
    u = torch.rand(40, 13, generator=torch.Generator().manual_seed(0))
    hidden = Hidden.draw(u, 14, 59)
    mask = hidden.mask().view(2, 40, 196)
    assert mask.sum(2).sort(0).values.tolist() == [[0] * 40, [59] * 40]
    assert 5 < int(mask[0].any(1).sum()) < 35
    patches = torch.randn(80, 196, 3)
    assert torch.equal(
        hidden.of(patches).view(40, 59, 3),
        torch.stack([patches[row][place] for row, place in zip(hidden.rows, hidden.places, strict=True)]),
    )


def test_hidden_patches_lie_in_blocks():
    u = torch.rand(50, 12, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(50, 196, dtype=torch.bool).scatter(1, block_places(u, edge=14, count=59), True)
    scattered = torch.zeros(50, 196, dtype=torch.bool).scatter(
        1, torch.rand(50, 196).argsort(1)[:, :59], True
    )

    def with_equal_neighbour(mask: torch.Tensor) -> float:
        grid = mask.view(-1, 14, 14)
        return float((grid[:, :, 1:] == grid[:, :, :-1]).float().mean())

    assert with_equal_neighbour(masks) > 0.85 > 0.65 > with_equal_neighbour(scattered)
    assert masks.float().mean(0).min() > 0  # and everywhere


@torch.no_grad()
def test_the_student_tells_what_the_teacher_makes_of_hidden_patches():
    task = ibot(num_local=0, momentum_centre=1.0)
    batch = batch_for(task)
    hidden = Hidden.draw(batch.uniforms(13), *task.hide)
    whole, count = torch.cat(batch.views), task.hide[1]
    _, told = task.model.tokens(whole)
    _, seen = masked_tokens(task.student, whole, hidden.mask(), task.mask_token)
    total = 0.0
    for b, row in enumerate(hidden.rows.tolist()):
        for place in hidden.places[b].tolist():
            target = probabilities(task.teacher_head(told[row, place][None])[0], 0.04)
            total += slow_entropy(target, task.student_head(seen[row, place][None])[0], 0.1)
    assert float(task(batch)["patch_loss"]) == pytest.approx(total / (16 * count), rel=1e-4)
    assert not hidden.mask().any(1).all()


def test_hidden_patches_work_in_bfloat16():
    task = ibot()
    with torch.autocast("cpu", torch.bfloat16):
        terms = task(batch_for(task))
    assert all(torch.isfinite(term) and term.dtype == torch.float32 for term in terms.values())


@torch.no_grad()
def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    task = ibot().eval()
    batch = batch_for(task)
    halves = [float(task(batch.part(i, 2))["loss"]) for i in range(2)]
    assert float(task(batch)["loss"]) == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_a_teacher_leaves_nothing_out_at_random():
    encoder = Encoder("test_vit", toys.PATCHES, options={"drop_path_rate": "0.5", "proj_drop_rate": "0.5"})
    images = torch.randn(8, 1, 64, 64)
    assert not torch.equal(encoder(images), encoder(images))
    assert torch.equal(without_dropout(encoder)(images), encoder(images))


@pytest.mark.parametrize("avoided", ["both", "only none", "only one"])
def test_centring_and_sharpening_avoid_one_collapse_each(avoided):
    settings = {
        "both": {},
        "only none": {"momentum_centre": 1},  # the centre stays at zero
        "only one": {"teacher_temperature": 0.5, "teacher_temperature_start": 0.5},
    }
    task = task_with(momentum_teacher=0.9, **settings[avoided])
    optimizer = torch.optim.AdamW([w for w in task.parameters() if w.requires_grad], lr=2e-3)
    for step in range(50):
        task.before_step(step / 50)
        terms = task(batch_for(task, step))
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    used = float(terms["prototypes_used"])
    assert {"both": 15 < used < 50, "only none": used < 8, "only one": used > 63}[avoided], used


def test_twenty_steps_bring_the_student_nearer_to_its_teacher():
    # The loss itself rises at first: the centre, which starts at zero, takes from the teacher what all
    # radiographs have in common, so that its entropy rises towards that of no prototype at all.
    task = task_with()
    optimizer = torch.optim.AdamW([w for w in task.parameters() if w.requires_grad], lr=3e-3)
    seen = []
    for step in range(20):
        task.before_step(step / 20)
        terms = task(batch_for(task, step))
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(terms["kl"]))
    assert sum(seen[-5:]) < 0.6 * sum(seen[:5])
