"""IPFH's two losses, what the restorer learns from an episode, and the pipeline."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facehall_env import agents, enhancers, recognition
from facehall_env.agents.ipfh import stages
from facehall_env.agents.ipfh.controller import Controller
from facehall_env.agents.ipfh.stages import train_ipfh
from facehall_env.agents.ipfh.training import IPFHTrainer, ipfh_reward
from facehall_env.agents.ipfh.two_part import IPFHLearner, RestorerLosses
from facehall_env.agents.reinforce.learner import play_episode
from facehall_env.agents.settings import ReinforceConfig, TermWeights, TrainIPFHConfig
from facehall_env.checkpoints import load_tensors
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.errors import ConfigurationError, EnhancerError, FacehallError, WeightsError
from facehall_env.nested import build
from facehall_env.patches import crop, inside_mask, paste
from facehall_env.state import CoreState
from facehall_env.training.dual_consistency import DualConsistency
from facehall_env.training.enhancer import EnhancerTrainer

SIZE, PATCH, SCALE = (32, 32), (16, 16), 8
NOTHING = TermWeights(0, 0, 0, 0, 0, 0)


@pytest.fixture
def cognition() -> recognition.Cognition:
    torch.manual_seed(5)
    recogniser = recognition.make("sphereface", width=4, embedding=6)
    head = recognition.AngularSoftmax(6, 3)
    network = recognition.Cognition(recogniser, head, ("ann", "bob", "cy"))
    return network.requires_grad_(False).eval()


def faces(number: int = 3) -> Faces:
    torch.manual_seed(2)
    hr = torch.rand(number, 3, *SIZE)
    lr = torch.nn.functional.avg_pool2d(hr, SCALE)
    initial = torch.nn.functional.interpolate(lr, scale_factor=SCALE)
    return Faces(hr, lr, initial, torch.arange(number) - 1)  # the first is a stranger


def restoring_core(num_steps: int = 3, reward: object = "delta_mse") -> HallucinationCore:
    """A small restorer that changes something, on a grid of 64 locations."""
    torch.manual_seed(1)
    restorer = enhancers.make("ipfh", scale=SCALE, patch_size=PATCH, width=4)
    torch.nn.init.normal_(restorer.leave.weight, std=0.1)
    return HallucinationCore(
        restorer, image_size=SIZE, reward=reward, num_steps=num_steps, action_stride=4
    )


def losses_of(weights: TermWeights, cognition: recognition.Cognition | None) -> RestorerLosses:
    texture = None if cognition is None else cognition.recogniser
    return RestorerLosses(
        weights, DualConsistency(SCALE, texture=texture), cognition, lambda state: state.identity
    )


def learner_of(core: HallucinationCore, losses: RestorerLosses, **config: object) -> IPFHLearner:
    torch.manual_seed(0)
    policy = Controller(core.geometry, num_steps=core.num_steps, hidden=48, width=4)
    settings = ReinforceConfig(**{"batch": 3, "updates": 2, "joint": True, **config})
    return IPFHLearner(core, policy, settings, losses)


class TestTerms:
    @pytest.mark.parametrize(
        ("without", "left"),
        [
            (["dual"], "feature identity"),
            (["hr"], "mse_lr texture_lr feature identity"),
            (["lr"], "mse_hr texture_hr feature identity"),
            (["mse"], "texture_hr texture_lr feature identity"),
            (["texture"], "mse_hr mse_lr feature identity"),
            (["identity", "perceptual"], "mse_hr texture_hr mse_lr texture_lr"),
            (["perceptual"], "mse_hr texture_hr mse_lr texture_lr identity"),
            (["identity"], "mse_hr texture_hr mse_lr texture_lr feature"),
            ([], "mse_hr texture_hr mse_lr texture_lr feature identity"),
        ],
    )
    def test_rows_of_table_ix(self, without, left: str, cognition) -> None:
        weights = TermWeights().without(without)
        assert weights.nonzero() == tuple(left.split())
        paid = ipfh_reward(weights, cognition, DualConsistency(SCALE))
        names = {name.removeprefix("ipfh_").removeprefix("patch_") for name in paid.weights}
        names -= {"face_mse", "face_texture"}
        assert names == set(left.split())
        assert ("ipfh_face_mse" in paid.weights) == ("mse_hr" in left)
        assert ("ipfh_face_texture" in paid.weights) == ("texture_hr" in left)

    def test_unknown_part(self) -> None:
        with pytest.raises(ConfigurationError, match=r"without='hrr'.*dual, hr, lr"):
            TermWeights().without(["hrr"])

    def test_missing_network(self) -> None:
        with pytest.raises(ConfigurationError, match="loss of identity needs a cognition"):
            losses_of(dataclasses.replace(NOTHING, identity=1.0), None)


class TestLosses:
    def test_patch_loss_of_errors_by_hand(self) -> None:
        """Eq. 16: the right half is 0.5 too bright, and of it only the upper half is inside."""
        truth, inside = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16, dtype=torch.bool)
        restored = truth.clone()
        restored[..., 8:] = 0.5
        inside[..., :8, :] = True
        weights = dataclasses.replace(NOTHING, mse_hr=2.0, mse_lr=3.0)
        terms = losses_of(weights, None).patch(restored, truth, inside)
        assert {name: term.tolist() for name, term in terms.items()} == {
            "patch_mse_hr": [2 * 0.125],
            "patch_mse_lr": [3 * 0.125],
        }

    def test_patch_loss_with_textures(self, cognition) -> None:
        torch.manual_seed(3)
        restored, truth = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
        inside = torch.ones(2, 1, 16, 16, dtype=torch.bool)
        network = cognition.recogniser
        expected = torch.zeros(2)
        for result, wanted in (
            (restored, truth),
            *[[torch.nn.functional.avg_pool2d(images, 8) for images in (restored, truth)]],
        ):
            expected += (result - wanted).square().mean((1, 2, 3))
            stages = [list(network.stages((255 * i - 127.5) / 128))[1:3] for i in (result, wanted)]
            for own, true in zip(*stages, strict=True):
                for row in range(2):
                    f, g = own[row].flatten(1), true[row].flatten(1)
                    expected[row] += ((f @ f.T - g @ g.T) / f.numel()).square().sum()
        terms = losses_of(TermWeights(), cognition).patch(restored, truth, inside)
        assert len(terms) == 4
        torch.testing.assert_close(sum(terms.values()), expected, rtol=1e-4, atol=1e-6)

    def test_image_loss(self, cognition) -> None:
        """Eq. 17, with means of the truth as the low resolution, no identity for a stranger."""
        core = restoring_core()
        state = core.reset(faces()._replace(lr=faces().lr / 2))
        image = (state.hr + 0.1).clamp(0, 1)
        weights = TermWeights(1.0, 0.0, 2.0, 0.0, 3.0, 4.0)
        terms = losses_of(weights, cognition).face(image, state)
        embedding, wanted = (cognition.recogniser.embed(i) for i in (image, state.hr))
        small, small_truth = (torch.nn.functional.avg_pool2d(i, 8) for i in (image, state.hr))
        identity = cognition.head.losses(embedding[1:], torch.tensor([0, 1]))
        expected = {
            "face_mse_hr": (image - state.hr).square().mean((1, 2, 3)),
            "face_mse_lr": 2 * (small - small_truth).square().mean((1, 2, 3)),
            "feature": 3 * (embedding - wanted).square().sum(1),
            "identity": 4 * torch.cat((torch.zeros(1), identity)),
        }
        assert terms.keys() == expected.keys()
        for name, term in terms.items():
            torch.testing.assert_close(term, expected[name], rtol=1e-4, atol=1e-6)


def play(core: HallucinationCore) -> tuple[list[tuple[CoreState, Tensor]], CoreState]:
    """Overlapping patches, also over the edge, of which later ones cover parts of earlier ones."""
    state, played = core.reset(faces()), []
    for action in ([0, 27, 63], [9, 28, 62], [1, 19, 0]):
        played.append((state, torch.tensor(action)))
        state, _, _ = core.step(*played[-1])
    return played, state


def gradients(core: HallucinationCore) -> list[Tensor]:
    found = [parameter.grad.clone() for parameter in core.enhancer.parameters()]
    core.enhancer.zero_grad()
    return found


class TestWhatTheRestorerLearnsFrom:
    def by_autograd(
        self, core: HallucinationCore, losses: RestorerLosses, detached: bool
    ) -> list[Tensor]:
        """The same losses, written down and differentiated as one expression."""
        played, _ = play(core)
        state, mosaic, total = played[0][0], played[0][0].image, torch.zeros(())
        for _, action in played:
            corner = core.geometry.top_left(action)
            image = mosaic.detach() if detached else mosaic
            patch = crop(image, corner, PATCH)
            restored = core.enhancer(patch, image, core.geometry.location(action))
            inside = inside_mask(corner, PATCH, SIZE)
            terms = losses.patch(restored, crop(state.hr, corner, PATCH), inside)
            total = total + sum(terms.values()).mean() / len(played)
            mosaic = paste(mosaic, restored.clamp(0, 1), corner)
        (total + sum(losses.face(mosaic, state).values()).mean()).backward()
        return gradients(core)

    def test_is_the_gradient_of_the_mosaic_with_the_images_between_steps_held(
        self, cognition
    ) -> None:
        core, losses = restoring_core(), losses_of(TermWeights(), cognition)
        learner = learner_of(core, losses)
        learner.learn_from(*play(core))
        found = gradients(core)
        expected = self.by_autograd(core, losses, detached=True)
        through_images = self.by_autograd(core, losses, detached=False)
        for own, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(own, wanted, rtol=1e-3, atol=1e-5)
        pairs = zip(found, through_images, strict=True)
        assert max((own - other).norm() / own.norm() for own, other in pairs) > 0.01

    def test_the_image_loss_alone_reaches_what_is_seen_in_the_end(self) -> None:
        """A patch that later ones cover completely is not learned from."""
        weights = dataclasses.replace(NOTHING, mse_hr=1.0)
        core = restoring_core(num_steps=2)
        losses = losses_of(weights, None)
        losses.patch = lambda *_: {}  # type: ignore[method-assign]
        state = core.reset(faces())
        played = []
        for _ in range(2):
            played.append((state, torch.tensor([27, 27, 27])))
            state, _, _ = core.step(*played[-1])
        learner = learner_of(core, losses)
        learner.learn_from(played, state)
        both = gradients(core)
        learner.learn_from(played[1:], state)
        for own, last in zip(both, gradients(core), strict=True):
            torch.testing.assert_close(own, last)
            assert own.any()

    def test_an_update_follows_it_and_logs_every_term(self, cognition) -> None:
        losses = losses_of(TermWeights(), cognition)
        paid = ipfh_reward(TermWeights(), cognition, losses.consistency)
        paid = paid.for_people(cognition.people)
        core = restoring_core(reward=paid)
        learner = learner_of(core, losses, enhancer_learning_rate=0.1)
        scores = learner.update(faces())
        found = [parameter.grad.clone() for parameter in core.enhancer.parameters()]
        named = {name for name in scores if name.startswith(("loss/", "reward/"))}
        assert len(named) == 10 + 8
        total = sum(scores[name] for name in named if name.startswith("loss/"))
        assert scores["train/enhancer_loss"] == pytest.approx(total)
        returned = sum(scores[name] for name in named if name.startswith("reward/"))
        assert scores["train/return"] == pytest.approx(returned, rel=1e-5)

        again = restoring_core(reward=paid)
        other = learner_of(again, losses)
        taken: list[tuple[CoreState, Tensor]] = []

        def advance(state: CoreState, action: Tensor):
            taken.append((state, action))
            return again.step(state, action)

        generator = torch.Generator().manual_seed(0)
        play_episode(again, other.policy, faces(), generator, advance=advance)
        final, _, _ = again.step(*taken[-1])
        other.learn_from(taken, final)
        for own, wanted in zip(found, gradients(again), strict=True):
            torch.testing.assert_close(own, wanted)

    def test_learned_down_sampling_learns_from_true_faces_alone(self) -> None:
        weights = dataclasses.replace(NOTHING, mse_hr=1.0, mse_lr=1.0)

        def fresh() -> IPFHLearner:
            torch.manual_seed(4)
            consistency = DualConsistency(SCALE, "convolution")
            losses = RestorerLosses(weights, consistency, None, lambda state: state.identity)
            return learner_of(restoring_core(), losses)

        learner = fresh()
        given = faces()._replace(lr=faces().lr / 2)
        learner.update(given)
        found = [p.grad for p in learner.restorer_losses.consistency.parameters()]
        untouched = fresh().restorer_losses.consistency
        untouched.down_loss(given.hr, given.lr).mean().backward()
        for own, parameter in zip(found, untouched.parameters(), strict=True):
            torch.testing.assert_close(own, parameter.grad)
        assert any(gradient.any() for gradient in found)

        tensors, other = learner.state_tensors(), fresh()
        other.restore(1, tensors, learner.state_metadata())
        for name, tensor in other.state_tensors().items():
            assert tensor.equal(tensors[name]), name
        assert any(name.startswith("consistency/") for name in tensors)

    def test_a_broken_loss_stops_before_any_weight_changes(self) -> None:
        losses = losses_of(dataclasses.replace(NOTHING, mse_hr=1.0), None)
        core = restoring_core()
        learner = learner_of(core, losses)
        before = {name: t.clone() for name, t in learner.state_tensors().items()}
        broken = faces()
        broken.hr[0, 0, 0, 0] = torch.nan
        with pytest.raises(EnhancerError, match="At update 0"):
            learner.update(broken)
        after = learner.state_tensors()
        weights = [name for name in before if name.startswith(("policy/", "enhancer/"))]
        assert all(before[name].equal(after[name]) for name in weights)


def settings(out: Path, **changes: object) -> TrainIPFHConfig:
    quick: dict[str, object] = {
        "dataset_settings": ("images_per_person=3",),
        "limit": 6,
        "validation_faces": 2,
        "steps": 2,
        "action_stride": 32,
        "batch": 2,
        "updates": 2,
        "validate_every": 1,
        "checkpoint_every": 1,
        "enhancer_settings": ("width=4",),
        "coarse_settings": ("width=8", "stacks=1"),
        "coarse_updates": 1,
        "coarse_batch": 2,
        "cognition_updates": 1,
        "cognition_people": 2,
        "cognition_width": 2,
        "cognition_embedding": 4,
        "cognition_batch": 2,
        "restorer_updates": 1,
        "restorer_batch": 2,
        "restorer_rollout_updates": 2,
        **changes,
    }
    return build(TrainIPFHConfig, out=out, **quick)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that ran through."""
    out = tmp_path_factory.mktemp("ipfh") / "run"
    assert train_ipfh(settings(out)) == out / "best.safetensors"
    return out


def entries(log: Path) -> list[dict[str, float]]:
    lines = log.read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same(one: Path, other: Path, stages: tuple[str, ...] = ("restorer", "joint")) -> None:
    for name, kind in (("enhancer", "enhancer"), ("restorer", "enhancer"), ("best", "agent")):
        first, _ = load_tensors(one / f"{name}.safetensors", kind)
        second, _ = load_tensors(other / f"{name}.safetensors", kind)
        assert first.keys() == second.keys()
        assert all(first[key].equal(second[key]) for key in first), name
    for stage in stages:
        logs = [entries(folder / stage / "log.jsonl") for folder in (one, other)]
        assert logs[0] == logs[1]


COMPACT = Path(enhancers.__file__).parent / "weights" / "compact-lfw-x4.safetensors"


class TestPipeline:
    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"policy": "ipf"}, "'ipf'.*ipfh"),
            ({"reward": "delta_psn"}, "'delta_psn'.*delta_psnr"),
            ({"keep": "lst"}, "Unknown keep 'lst'"),
            ({"updates": 0}, "updates=0: give a whole number of 1 or more"),
            ({"device": "gpu"}, "device='gpu' cannot be used here"),
            ({"feature": float("nan")}, "feature=nan"),
            ({"cognition_learning_rate": -1.0}, "cognition_learning_rate=-1.0"),
            ({"samples_per_face": 3}, "batch=2 is no multiple of samples_per_face=3"),
            ({"foresight": True}, "works on patches"),
            ({"init": COMPACT}, "holds enhancer, expected agent"),
            ({"enhancer": "compakt"}, "'compakt'.*compact"),
            ({"enhancer": "srcnn", "enhancer_settings": ()}, "joint=True .* 'srcnn' cannot"),
            ({"enhancer_settings": ("widt=8",)}, "widt"),
            ({"weights": str(COMPACT)}, "compact-lfw-x4.*expected 'ipfh'"),
            ({"action_offset": 99}, "action_offset=99"),
            ({"dataset": "synthetic", "dataset_settings": ("images_per_person=1",)}, "who is on"),
        ],
    )
    def test_what_the_last_stage_would_refuse_is_said_before_the_first(
        self, tmp_path: Path, change: dict[str, object], error: str
    ) -> None:
        with pytest.raises(FacehallError, match=error):
            train_ipfh(settings(tmp_path / "run", **change))
        assert not (tmp_path / "run").exists()

    def test_the_restorer_learns_on_the_controllers_grid(self, whole: Path, tmp_path: Path) -> None:
        told = json.loads((whole / "restorer" / "config.json").read_text())["episode"]
        assert (told["action_stride"], told["action_offset"]) == (32, None)
        given = {"initial": "bicubic", "cognition": whole / "cognition.safetensors"}
        train_ipfh(settings(tmp_path, action_offset=15, **given))
        told = json.loads((tmp_path / "restorer" / "config.json").read_text())["episode"]
        assert (told["action_stride"], told["action_offset"]) == (32, 15)
        agent = load_tensors(tmp_path / "best.safetensors", "agent")[1]
        assert agent["geometry"]["offset"] == 15

    def test_leaves_an_agent_and_the_restorer_it_was_measured_with(self, whole: Path) -> None:
        trainer = IPFHTrainer(settings(whole))
        trainer.core.enhancer.load_state_dict(
            enhancers.load(whole / "enhancer.safetensors").state_dict()
        )
        agent = agents.load(whole / "best.safetensors", trainer.core)
        scores = trainer.measure(agent)
        told = agent.provenance["held_out"]
        assert told["held_out/psnr"] == pytest.approx(scores["held_out/psnr"], abs=1e-6)
        assert told["held_out/ssim"] == pytest.approx(scores["held_out/ssim"], abs=1e-6)
        assert told["held_out/cosine"] == pytest.approx(scores["held_out/cosine"], abs=1e-5)
        logged = entries(whole / "joint" / "log.jsonl")
        best = max(entry["held_out/psnr"] for entry in logged if "held_out/psnr" in entry)
        assert told["held_out/psnr"] == best

    def test_the_last_weights_can_be_kept_whatever_their_psnr(
        self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        falling = iter(range(100, 0, -1))
        measure = IPFHTrainer.measure

        def worse_each_time(self: IPFHTrainer, agent: agents.Agent) -> dict[str, float]:
            return {**measure(self, agent), "held_out/psnr": float(next(falling))}

        monkeypatch.setattr(IPFHTrainer, "measure", worse_each_time)
        config = settings(
            tmp_path,
            initial=str(whole / "coarse.safetensors"),
            cognition=whole / "cognition.safetensors",
            weights=str(whole / "restorer.safetensors"),
            keep="last",
        )
        train_ipfh(config)
        joint = tmp_path / "joint"
        best, last = (
            enhancers.load(joint / f"{name}-enhancer.safetensors").state_dict()
            for name in ("best", "last")
        )
        assert any(not best[name].equal(last[name]) for name in best)

        def left() -> list[bytes]:
            return [(tmp_path / f"{own}.safetensors").read_bytes() for own in ("best", "enhancer")]

        def trained(kept: str) -> list[bytes]:
            names = (f"{kept}.safetensors", f"{kept}-enhancer.safetensors")
            return [(joint / name).read_bytes() for name in names]

        assert left() == trained("last")
        # How far it was trained and how good it was is said of the last weights, too.
        told = load_tensors(tmp_path / "best.safetensors", "agent")[1]["provenance"]
        logged = entries(joint / "log.jsonl")
        held_out = [entry for entry in logged if "held_out/psnr" in entry]
        assert told["updates"] == config.updates
        assert told["held_out"]["held_out/psnr"] == held_out[-1]["held_out/psnr"]

        # A run that is over takes the others without training.
        monkeypatch.setattr(IPFHTrainer, "update", None)
        resumed = dataclasses.replace(config, resume=True)
        train_ipfh(dataclasses.replace(resumed, keep="best"))
        assert left() == trained("best")
        (joint / "last-enhancer.safetensors").unlink()
        with pytest.raises(WeightsError, match=r"last-enhancer\.safetensors is missing"):
            train_ipfh(resumed)
        assert left() == trained("best")

    def test_starts_from_the_coarse_face_and_knows_the_people(self, whole: Path) -> None:
        trainer = IPFHTrainer(settings(whole))
        held_out = trainer.pool.held_out()
        coarse = enhancers.load(whole / "coarse.safetensors")
        state = trainer.core.reset(held_out)
        expected = coarse.restore(held_out.initial, held_out.lr).clamp(0, 1)
        torch.testing.assert_close(state.image, expected)
        people = trainer.cognition.people
        names = [trainer.people[number] for number in state.identity.tolist()]
        labels = trainer.learner.restorer_losses.labels(state).tolist()
        assert [people[label] for label in labels] == names

    @pytest.mark.parametrize(("trainer", "survives"), [(EnhancerTrainer, 2), (IPFHTrainer, 1)])
    def test_killed_and_resumed_it_ends_with_the_same_bits(
        self, trainer: type, survives: int, whole: Path, tmp_path: Path, monkeypatch
    ) -> None:
        given = {"initial": str(whole / "coarse.safetensors")}
        given["cognition"] = whole / "cognition.safetensors"
        update, calls = trainer.update, {"left": survives}

        def fragile(self):
            calls["left"] -= 1
            if calls["left"] < 0:
                raise KeyboardInterrupt
            return update(self)

        with monkeypatch.context() as patched:
            patched.setattr(trainer, "update", fragile)
            with pytest.raises(KeyboardInterrupt):
                train_ipfh(settings(tmp_path, **given))
        train_ipfh(settings(tmp_path, **given, resume=True))
        assert_same(whole, tmp_path)

    def test_stages_whose_weights_are_given_are_passed_over(
        self, whole: Path, tmp_path: Path, monkeypatch
    ) -> None:
        for stage in ("train_sr", "train_cognition", "train_enhancer"):
            monkeypatch.setattr(stages, stage, None)
        config = settings(
            tmp_path,
            initial=str(whole / "coarse.safetensors"),
            cognition=whole / "cognition.safetensors",
            weights=str(whole / "restorer.safetensors"),
        )
        train_ipfh(config)
        assert_same(whole, tmp_path, stages=("joint",))
        before = (tmp_path / "best.safetensors").stat().st_mtime_ns
        train_ipfh(dataclasses.replace(config, resume=True))
        assert (tmp_path / "best.safetensors").stat().st_mtime_ns == before

    def test_parts_can_be_left_out(self, whole: Path, tmp_path: Path) -> None:
        config = settings(
            tmp_path,
            dataset_settings=(),
            initial="bicubic",
            weights=str(whole / "restorer.safetensors"),
            without=("texture", "perceptual", "identity"),
            reward="delta_psnr",
            updates=1,
        )
        train_ipfh(config)
        assert not (tmp_path / "cognition.safetensors").exists()
        assert not (tmp_path / "coarse.safetensors").exists()
        logged = {name for entry in entries(tmp_path / "joint" / "log.jsonl") for name in entry}
        assert {name for name in logged if name.startswith(("loss/", "reward/"))} == {
            "loss/patch_mse_hr",
            "loss/patch_mse_lr",
            "loss/face_mse_hr",
            "loss/face_mse_lr",
            "reward/delta_psnr",
        }
        assert "held_out/cosine" not in logged


class TestBadInput:
    def test_nothing_is_trained_before_all_is_checked(self, tmp_path: Path, whole: Path) -> None:
        with pytest.raises(WeightsError, match=r"no\.safetensors"):
            train_ipfh(settings(tmp_path / "a", cognition=tmp_path / "no.safetensors"))
        with pytest.raises(WeightsError, match="holds enhancer, expected cognition"):
            train_ipfh(settings(tmp_path / "b", cognition=whole / "coarse.safetensors"))
        everything = ("dual", "perceptual", "identity")
        with pytest.raises(ConfigurationError, match="All weights"):
            train_ipfh(settings(tmp_path / "c", without=everything))
        with pytest.raises(ConfigurationError, match="one_shot=True"):
            train_ipfh(settings(tmp_path / "d", one_shot=True))
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_holds_a_run_or_other_settings(self, whole: Path) -> None:
        with pytest.raises(ConfigurationError, match="--resume"):
            train_ipfh(settings(whole))
        with pytest.raises(ConfigurationError, match=r"mse_hr=1\.0"):
            train_ipfh(settings(whole, mse_hr=2.0, resume=True))

    def test_faces_of_nobody_the_cognition_network_knows(self, whole: Path, tmp_path: Path) -> None:
        changes = {
            "initial": "bicubic",
            "cognition": whole / "cognition.safetensors",
            "weights": str(whole / "restorer.safetensors"),
        }
        with pytest.raises(ConfigurationError, match="does not know"):
            train_ipfh(settings(tmp_path, **changes, dataset_settings=("seed=1",)))
