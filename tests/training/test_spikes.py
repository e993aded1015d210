"""The spike guard: its arithmetic by hand, what it does under each policy, and that it resumes to the bit."""

from __future__ import annotations

import json
import math
import signal
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.spikes import SpikeConfig
from dsm.errors import SpikeError, UserError
from dsm.training.spikes import LOSS_FLOOR, NORM_FLOOR, SpikeGuard, robust_z
from tests.training.harness import Lab, assert_same_run, curve, finish, start, will_be_signalled

PER_STEP = 10  # sequences


def guard(file: Path = Path("unused"), mix_changes: tuple[int, ...] = (), **settings: Any) -> SpikeGuard:
    defaults = {
        "policy": "skip",
        "window": 8,
        "min_history": 4,
        "loss_sigmas": 6.0,
        "grad_norm_sigmas": 6.0,
        "max_in_a_row": 3,
    }
    config = SpikeConfig.model_validate(defaults | settings)
    return SpikeGuard(config, file, lambda step: PER_STEP * step, mix_changes=mix_changes, first=file.name != "unused")


def judge_all(guard: SpikeGuard, losses: list[float], norms: list[float] | None = None, start: int = 0) -> list[str]:
    norms = norms or [1.0] * len(losses)
    return [guard.judge(*pair, step) for step, pair in enumerate(zip(losses, norms, strict=True), start)]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def noise(steps: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Losses with a standard deviation of 0.05 nats, and norms that vary by a fifth."""
    draw = np.random.default_rng(seed)
    return (2.0 + 0.05 * draw.standard_normal(steps)).tolist(), np.exp(0.2 * draw.standard_normal(steps)).tolist()


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def test_z_by_hand() -> None:
    history = [2.0, 2.1, 2.2, 2.3, 9.0]  # median 2.2; deviations 0.2, 0.1, 0, 0.1, 6.8; their median 0.1
    assert robust_z(2.2 + 3 * 0.14826, history, floor=0.01) == pytest.approx(3.0)
    assert robust_z(2.2, history, floor=0.01) == 0.0
    assert robust_z(1.0, history, floor=0.01) < 0
    assert robust_z(2.5, history, floor=0.3) == pytest.approx(1.0)  # the floor is the larger one
    assert robust_z(5.02, [5.0] * 7, floor=0.01) == pytest.approx(2.0)  # no noise: the floor alone


def test_the_scale_is_a_standard_deviation_for_normal_noise() -> None:
    history = [NormalDist(3.0, 0.25).inv_cdf((i + 0.5) / 4001) for i in range(4001)]
    assert robust_z(3.25, history, floor=0.0) == pytest.approx(1.0, abs=2e-3)


def test_the_border_is_where_it_is_said_to_be() -> None:
    """A window without noise: the smallest rise that is a spike is the number of sigmas times the floor."""
    for rise, expected in ((6 * LOSS_FLOOR - 1e-9, "apply"), (6 * LOSS_FLOOR + 1e-9, "skip")):
        assert judge_all(guard(), [2.0] * 4 + [2.0 + rise])[-1] == expected
    for factor, expected in ((math.exp(6 * NORM_FLOOR) - 1e-9, "apply"), (math.exp(6 * NORM_FLOOR) + 1e-9, "skip")):
        assert judge_all(guard(), [2.0] * 5, [0.7] * 4 + [0.7 * factor])[-1] == expected


@settings(deadline=None, max_examples=50)
@given(st.floats(-5, 5), st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_only_differences_of_losses_and_ratios_of_norms_matter(shift: float, factor: float, seed: int) -> None:
    losses, norms = noise(40, seed)
    losses[20], norms[30] = 3.0, 20.0
    moved = judge_all(guard(), [loss + shift for loss in losses], [norm * factor for norm in norms])
    assert moved == judge_all(guard(), losses, norms)
    assert moved[20] == moved[30] == "skip"


def test_falls_are_no_spikes() -> None:
    assert judge_all(guard(), [2.0] * 6 + [0.5], [1.0] * 6 + [0.01]) == ["apply"] * 7


def test_none_before_there_is_history() -> None:
    one = guard()
    assert judge_all(one, [2.0, 90.0, 2.0, 90.0]) == ["apply"] * 4
    assert one.metrics == {"spike/count": 0.0, "spike/skipped": 0.0}


def test_only_what_has_a_limit_is_judged() -> None:
    losses, norms = [2.0] * 6, [1.0] * 5 + [50.0]
    assert judge_all(guard(grad_norm_sigmas=None), losses, norms)[-1] == "apply"
    assert judge_all(guard(loss_sigmas=None), losses, norms)[-1] == "skip"


def test_noise_is_no_spike_and_every_spike_is_found() -> None:
    """OLMo's window and limit: no false alarm in 5,000 steps of noise, and half a nat is always found in it."""
    one = guard(window=128, min_history=64)
    losses, norms = noise(5_000)
    planted = range(500, 5_000, 250)
    for step in planted:
        losses[step] += 0.5
    assert [step for step, verdict in enumerate(judge_all(one, losses, norms)) if verdict == "skip"] == list(planted)


def test_one_spike_hides_no_other() -> None:
    """Where mean and standard deviation of the same window let the second through."""
    losses = noise(40)[0] + [12.0, 3.0]
    assert judge_all(guard(window=32, min_history=32), losses)[-2:] == ["skip", "skip"]
    window = np.array(losses[-33:-1])
    assert (losses[-1] - window.mean()) / window.std() < 1


def test_a_falling_loss_with_its_noise_raises_no_alarm() -> None:
    """The beginning of a run: 10 nats down to 3, and norms that fall with them."""
    noisy, norms = noise(2000, seed=3)
    losses = [value + 8 * math.exp(-step / 100) for step, value in enumerate(noisy)]
    norms = [norm * (1 + 9 * math.exp(-step / 100)) for step, norm in enumerate(norms)]
    assert set(judge_all(guard(window=128, min_history=64), losses, norms)) == {"apply"}


# -- the policies -----------------------------------------------------------------------------------------------------


def test_skip_lists_the_step_and_its_sequences(tmp_path: Path) -> None:
    one = guard(tmp_path / "run" / "spikes.jsonl")
    assert judge_all(one, [2.0] * 5 + [3.0, 2.0], [0.5] * 5 + [4.0, 0.5]) == ["apply"] * 5 + ["skip", "apply"]
    (row,) = rows(one.file)
    assert (row["step"], row["action"], row["sequences"]) == (6, "skip", [50, 60])
    assert (row["loss"], row["grad_norm"], row["loss_median"]) == (3.0, 4.0, 2.0)
    assert row["loss_z"] == pytest.approx(1 / LOSS_FLOOR)
    assert row["grad_norm_z"] == pytest.approx(math.log(8) / NORM_FLOOR)
    assert row["grad_norm_median"] == pytest.approx(0.5)
    assert one.metrics == {"spike/loss_z": 0.0, "spike/grad_norm_z": 0.0, "spike/count": 1.0, "spike/skipped": 1.0}


def test_log_lets_it_through(tmp_path: Path) -> None:
    one = guard(tmp_path / "spikes.jsonl", policy="log")
    assert judge_all(one, [2.0] * 4 + [3.0] * 3) == ["apply"] * 7
    assert [(row["step"], row["action"]) for row in rows(one.file)] == [(5, "log"), (6, "log"), (7, "log")]
    assert (one.metrics["spike/count"], one.metrics["spike/skipped"]) == (3, 0)


def test_stop_ends_the_run_and_says_where_to_look(tmp_path: Path) -> None:
    one = guard(tmp_path / "spikes.jsonl", policy="stop")
    with pytest.raises(SpikeError, match=r"spikes\.policy=stop: step 5 .*sequences 40 to 49.*spikes=skip") as caught:
        judge_all(one, [2.0] * 4 + [3.0])
    assert isinstance(caught.value, UserError)  # exit status 2, one line
    assert [row["action"] for row in rows(one.file)] == ["stop"]


def test_too_many_in_a_row_are_no_spikes(tmp_path: Path) -> None:
    one = guard(tmp_path / "spikes.jsonl", window=64, min_history=4)
    losses = [2.0] * 20 + [3.0, 3.0, 2.0] + [3.0] * 3
    assert judge_all(one, losses)[20:] == ["skip", "skip", "apply", "skip", "skip", "skip"]
    with pytest.raises(SpikeError, match=r"spikes\.max_in_a_row=3: step 27 "):
        one.judge(3.0, 1.0, 26)
    assert [row["action"] for row in rows(one.file)] == ["skip"] * 5 + ["stop"]


def test_a_new_level_is_taken_for_one_after_half_a_window() -> None:
    verdicts = judge_all(guard(window=16, max_in_a_row=100), [2.0] * 16 + [3.0] * 16)
    assert verdicts[16:] == ["skip"] * 8 + ["apply"] * 8


def test_a_planned_change_of_the_mix_is_no_spike() -> None:
    losses = [2.0] * 20 + [3.5] * 20
    assert judge_all(guard(), losses[:21])[20] == "skip"
    for change in (20 * PER_STEP, 20 * PER_STEP + 9):  # it comes within the batch of step 20
        verdicts = judge_all(guard(mix_changes=(change,)), [*losses, 9.0])
        assert verdicts == ["apply"] * 40 + ["skip"]


# -- the checkpoint ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 3, 25, 60])
def test_a_resumed_guard_goes_on_to_the_bit(at: int) -> None:
    losses, norms = noise(100, seed=at)
    losses[10] = losses[59] = losses[60] = 5.0
    straight, before, after = guard(), guard(), guard()
    judge_all(straight, losses, norms)
    judge_all(before, losses[:at], norms[:at])
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))  # plain numbers: any format will do
    judge_all(after, losses[at:], norms[at:], start=at)
    assert after.state_dict() == straight.state_dict()
    assert after.metrics == straight.metrics


def test_a_shorter_window_takes_the_newest() -> None:
    before, after = guard(), guard(window=4)
    judge_all(before, [2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    after.load_state_dict(before.state_dict())
    assert after.state_dict()["losses"] == [2.2, 2.3, 2.4, 2.5]


# -- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["log", "skip", "stop"])
def test_each_policy_has_its_option(policy: str) -> None:
    run = ["stage=pretrain", "tokenizer.path=T", "scheduler.warmup_steps=1", "mix.sources.a={path: A, weight: 1}"]
    config: Any = compose_config([*run, f"spikes={policy}"])
    assert config.spikes.policy == policy
    assert (config.spikes.window, config.spikes.loss_sigmas) == (128, 6.0)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"min_history=9: must be from 2 to window=8"):
        guard(min_history=9)
    with pytest.raises(ValueError, match="nothing would be judged"):
        guard(loss_sigmas=None, grad_norm_sigmas=None)


# -- in a run ---------------------------------------------------------------------------------------------------------


def command(lab: Lab, store: Path, runs: Path, *settings: str) -> list[str]:
    """Eight small steps, each compared with the three before it so narrowly that every other norm is a spike."""
    return [
        "stage=pretrain",
        "model=tiny",
        "model.config={hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2}",
        f"tokenizer.path={lab.tokenizer}",
        f"mix.sources.maths={{path: '{store}', weight: 1}}",
        "mix.context=64",
        "mix.validation.sequences=0",
        "scheduler.warmup_steps=1",
        "spikes.window=3",
        "spikes.min_history=2",
        "spikes.loss_sigmas=null",
        "spikes.grad_norm_sigmas=0.01",
        "parallel.accelerator=cpu",
        f"trainer.tokens={8 * 3 * 64}",
        f"trainer.tokens_per_step={3 * 64}",
        "trainer.log_every=1",
        "checkpoint.every=1",
        "callbacks.progress=false",
        f"paths.runs={runs}",
        f"paths.cache={lab.folder / 'cache'}",
        *settings,
    ]


def test_a_run_skips_what_is_a_spike_also_after_a_kill(lab: Lab, store: Path, tmp_path: Path) -> None:
    straight, killed = (command(lab, store, tmp_path / name, "spikes=skip") for name in ("straight", "killed"))
    assert main(straight) == 0
    (reference,) = (tmp_path / "straight" / "pretrain").iterdir()
    listed = rows(reference / "spikes.jsonl")
    assert listed
    curves = {line["step"]: line for line in curve(reference) if "train/loss" in line}
    for row in listed:
        assert row["sequences"] == [3 * row["step"] - 3, 3 * row["step"]]
        assert (row["loss"], row["grad_norm"]) == tuple(
            curves[row["step"]][f"train/{key}"] for key in ("loss", "grad_norm")
        )
    assert curves[8]["train/skipped_steps"] == curves[8]["spike/skipped"] == len(listed) < 8

    kill = partial(will_be_signalled, listed[-1]["step"] - 1, signal.SIGKILL)  # in the step that is to be skipped
    assert finish([start(killed, tmp_path / "output", kill)]) == [-signal.SIGKILL]
    assert main(killed) == 0
    (folder,) = (tmp_path / "killed" / "pretrain").iterdir()
    assert_same_run(folder, reference)
    assert rows(folder / "spikes.jsonl") == listed


def test_a_run_stops_before_the_update_and_can_be_led_past_it(
    lab: Lab, store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(lab, store, tmp_path, "spikes=stop")) == 2
    told = capfd.readouterr().err
    (stopped,) = (tmp_path / "pretrain").iterdir()
    (row,) = rows(stopped / "spikes.jsonl")
    assert f"dsm: spikes.policy=stop: step {row['step']} is a spike" in told
    assert [int(folder.name[-8:]) for folder in (stopped / "checkpoints").glob("step-*")][-1] < row["step"]
    assert main(command(lab, store, tmp_path, "spikes=skip", f"resume={stopped}")) == 0
    (past,) = (folder for folder in (tmp_path / "pretrain").iterdir() if folder != stopped)
    assert rows(past / "spikes.jsonl")[0] == row | {"action": "skip"}
