"""Gradients of every window in one backward pass, against autograd; Adam's form; projection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny import llama, tokens
from torch import Tensor

from tasks.selection.coreset import gradients as module
from tasks.selection.coreset.gradients import BLOCK, Warmup, features, project
from tasks.selection.coreset.lora import SCALE, Branches, Place
from tasks.selection.coreset.norms import column_squares

WARMUP = Warmup(steps=4, checkpoints=2, batch=3, learning_rate=0.01)


def branches_of(
    model: torch.nn.Module, rank: int = 3, names: tuple[str, ...] = ("q_proj", "v_proj", "o_proj")
) -> Branches:
    places = {
        name: Place(layer, layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.endswith(names)
    }
    return Branches(places, rank, torch.Generator().manual_seed(0), torch.device("cpu"))


def loss_of(model: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    def loss(windows_NT: Tensor) -> Tensor:
        logits = model(input_ids=windows_NT, use_cache=False).logits[:, :-1]
        targets = windows_NT[:, 1:]
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none"
        )
        return each.view_as(targets).mean(dim=1)

    return loss


def randomised(branches: Branches) -> Branches:
    generator = torch.Generator().manual_seed(4)
    for up in branches.up.values():
        up.copy_(0.05 * torch.randn(up.shape, generator=generator))
    return branches


def by_autograd(branches: Branches, loss: Callable[[Tensor], Tensor], window_T: Tensor) -> Tensor:
    parameters = branches.parameters()
    for tensor in parameters:
        tensor.requires_grad_()
    with branches.attached():
        found = torch.autograd.grad(loss(window_T[None]).sum(), parameters)
    for tensor in parameters:
        tensor.requires_grad_(False)
    return torch.cat([part.flatten() for part in found])


def test_hooked_gradients_are_autograds_window_by_window() -> None:
    model, windows_NT = llama(), tokens(5, 12)
    branches, loss = randomised(branches_of(model)), loss_of(model)
    found_NP = branches.example_gradients(loss, windows_NT)
    assert found_NP.shape == (5, branches.size())
    for window_T, found_P in zip(windows_NT, found_NP, strict=True):
        torch.testing.assert_close(found_P, by_autograd(branches, loss, window_T))


def test_a_branch_that_has_not_learned_changes_nothing_and_only_its_upper_half_has_gradients() -> (
    None
):
    model, windows_NT = llama(), tokens(2, 8)
    branches, loss = branches_of(model), loss_of(model)
    plain = loss(windows_NT)
    with branches.attached():
        torch.testing.assert_close(loss(windows_NT), plain)
    found = branches.example_gradients(loss, windows_NT).split(
        [tensor.numel() for tensor in branches.parameters()], dim=1
    )
    assert all(not down.any() for down in found[::2])
    assert all(up.any() for up in found[1::2])


def test_a_branch_adds_its_product() -> None:
    layer = torch.nn.Linear(4, 6, bias=False)
    place = {"layer": Place(layer, 4, 6)}
    branches = randomised(Branches(place, 2, torch.Generator(), torch.device("cpu")))
    x_TI = torch.randn(1, 3, 4)
    weight = layer.weight + SCALE * branches.up["layer"] @ branches.down["layer"]
    with branches.attached():
        torch.testing.assert_close(layer(x_TI), x_TI @ weight.T)
    torch.testing.assert_close(layer(x_TI), x_TI @ layer.weight.T)


def test_a_layer_that_does_not_tell_windows_apart_is_refused() -> None:
    layer = torch.nn.Linear(4, 6)
    branches = Branches({"l": Place(layer, 4, 6)}, 2, torch.Generator(), torch.device("cpu"))

    def loss(windows_NT: Tensor) -> Tensor:
        return layer(torch.randn(windows_NT.numel(), 4)).sum(dim=1)

    with pytest.raises(ValueError, match="l sees 6×4 where 2 windows"):
        branches.example_gradients(loss, torch.zeros(2, 3))


def test_a_layer_without_part_in_the_loss_has_no_gradient() -> None:
    used, idle = torch.nn.Linear(4, 6), torch.nn.Linear(4, 6)
    places = {"used": Place(used, 4, 6), "idle": Place(idle, 4, 6)}
    branches = randomised(Branches(places, 2, torch.Generator(), torch.device("cpu")))
    x_NTI = torch.randn(3, 5, 4)
    found_NP = features(
        branches,
        lambda windows: used(x_NTI[windows[:, 0]]).square().mean(dim=(1, 2)),
        torch.arange(3)[:, None],
        warmup=WARMUP,
        dimensions=16,
        form="plain",
        generator=torch.Generator(),
        seed=0,
        batch=3,
    ).x_ND
    assert found_NP.isfinite().all()
    loss = lambda windows: used(x_NTI).square().mean(dim=(1, 2))  # noqa: E731
    flat_NP = branches.example_gradients(loss, torch.zeros(3, 1))
    half = flat_NP.shape[1] // 2
    assert flat_NP[:, :half].any()
    assert not flat_NP[:, half:].any()


def made(form: str = "adam", batch: int = 4, seed: int = 0, windows: int = 7) -> module.Features:
    model = llama()
    return features(
        branches_of(model),
        loss_of(model),
        tokens(windows, 10),
        warmup=WARMUP,
        dimensions=64,
        form=form,  # type: ignore[arg-type]
        generator=torch.Generator().manual_seed(seed),
        seed=seed,
        batch=batch,
    )


def test_features_are_the_weighted_mean_of_unit_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    once, projected = made(), []
    monkeypatch.setattr(
        module, "project", lambda *a: projected.append(project(*a)) or projected[-1]
    )
    again = made()
    torch.testing.assert_close(again.x_ND, once.x_ND, rtol=0, atol=0)
    # Adam's form at each checkpoint, and before the last one's the plain gradients.
    first, raw, last = projected
    torch.testing.assert_close(again.raw_ND, raw)
    assert again.rates == pytest.approx([0.01 * 1.5 / 4, 0.01 * 3.5 / 4])
    share = 1.5 / 5
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(again.x_ND, share * unit(first) + (1 - share) * unit(last))
    assert again.x_ND.norm(dim=1).max() < 1


def test_features_do_not_depend_on_the_batch() -> None:
    torch.testing.assert_close(made(batch=1).x_ND, made(batch=7).x_ND, rtol=1e-3, atol=1e-5)


def test_forms_and_seeds_make_other_features() -> None:
    once = made()
    assert not torch.allclose(once.x_ND, made("plain").x_ND)
    assert not torch.allclose(once.x_ND, made(seed=1).x_ND)


def test_the_papers_rates_come_back() -> None:
    # A ramp to 2e-5 in 51 steps that is stopped at 30, with checkpoints at 10, 20 and 30.
    rates = Warmup(steps=30, checkpoints=3, batch=1, learning_rate=2e-5 * 30 / 51).rates()
    assert rates == pytest.approx([2.1569e-6, 6.0784e-6, 1e-5], rel=1e-4)


def test_adams_form_is_the_papers() -> None:
    flat, first, second = torch.randn(3, 5), torch.randn(5), torch.rand(5)
    expected = (0.9 * first + 0.1 * flat) / (0.999 * second + 0.001 * flat**2 + 1e-8).sqrt()
    torch.testing.assert_close(module._preconditioned_(flat.clone(), first, second), expected)


def test_the_model_is_left_as_it_was() -> None:
    model = llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features(
        branches_of(model),
        loss_of(model),
        tokens(3, 8),
        warmup=WARMUP,
        dimensions=16,
        form="adam",
        generator=torch.Generator(),
        seed=0,
        batch=2,
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(layer._forward_hooks for layer in model.modules())


def test_more_checkpoints_than_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="3 checkpoints in 2 steps"):
        features(
            branches_of(llama()),
            loss_of(llama()),
            tokens(3, 8),
            warmup=Warmup(steps=2, checkpoints=3, batch=1, learning_rate=0.1),
            dimensions=4,
            form="adam",
            generator=torch.Generator(),
            seed=0,
            batch=1,
        )


def test_projection_keeps_angles() -> None:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, 3 * BLOCK // 2, generator=generator)
    rows = common + torch.randn(12, 3 * BLOCK // 2, generator=generator)
    short = project(rows, 512, seed=3)
    unit = torch.nn.functional.normalize
    error = unit(short) @ unit(short).T - unit(rows) @ unit(rows).T
    assert error.abs().max() < 4 / 512**0.5


def test_projection_is_linear_blockwise_and_follows_its_seed() -> None:
    rows = torch.randn(3, BLOCK + 100, generator=torch.Generator().manual_seed(0))
    whole = project(rows, 24, seed=1)
    # A processor's kernels may sum one row in another order than three.
    torch.testing.assert_close(project(rows[1:2], 24, seed=1), whole[1:2], rtol=1e-4, atol=1e-3)
    summed = project(rows.sum(0, keepdim=True), 24, seed=1)[0]
    torch.testing.assert_close(summed, whole.sum(0), rtol=1e-4, atol=1e-2)
    assert not torch.allclose(project(rows, 24, seed=2), whole)
    signs = project(torch.eye(5), 16, seed=1) * 4
    assert set(signs.unique().tolist()) == {-1.0, 1.0}


def test_column_squares_are_those_of_each_window() -> None:
    model, windows_NT = llama(), tokens(5, 8)
    layer = model.get_submodule("model.layers.0.self_attn.q_proj")
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(input_ids=windows_NT)
    handle.remove()
    found = column_squares({"q": layer}, lambda part: model(input_ids=part), windows_NT, batch=2)
    torch.testing.assert_close(found, seen[0].square().sum(dim=1))
