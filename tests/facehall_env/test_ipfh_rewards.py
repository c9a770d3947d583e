"""IPFH's rewards: each term by hand, sums of them, whose faces they are, and what they need."""

from __future__ import annotations

import math
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from facehall_env import rewards
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.data.base import FaceDataset, Identified
from facehall_env.data.images import ImageArray
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError, UnknownNameError, WeightsError
from facehall_env.recognition import AngularSoftmax, Cognition, SphereFace, save_cognition
from facehall_env.rewards.ipfh import (
    COGNITION_VARIABLE,
    FACE_TERMS,
    PATCH_TERMS,
    TERMS,
    WITHOUT_NETWORK,
    IPFHReward,
)
from facehall_env.state import CoreState
from facehall_env.training.dual_consistency import DualConsistency

PEOPLE = ("ann", "bob", "cat")
SIDE, PATCH = 32, 8


class Shifted(Enhancer):
    """Moves a patch by an amount that depends on where it is."""

    name = "shifted"

    def __init__(self) -> None:
        super().__init__(scale=8, patch_size=(PATCH, PATCH))

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        return patch + (location.sum(1) % 7 - 3).float()[:, None, None, None] / 20


class People(FaceDataset, Identified):
    """Nine noisy faces of ann, bob and dan, by turns."""

    def __init__(self, people: tuple[str, ...] = ("ann", "bob", "dan")) -> None:
        self.name, self.split, self.image_size = "people", "train", (SIDE, SIDE)
        self.people = people

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> ImageArray:
        drawn = np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3))
        return np.asarray(drawn, dtype=np.uint8)

    def key(self, index: int) -> str:
        return f"face/{index}"

    def identity(self, index: int) -> str:
        return self.people[index % 3]


class Strangers(People):
    """The same faces, of nobody knows whom."""

    def __init__(self) -> None:
        super().__init__(())


@pytest.fixture
def cognition() -> Cognition:
    torch.manual_seed(0)
    return Cognition(SphereFace(4, 8), AngularSoftmax(8, 3), PEOPLE).requires_grad_(False).eval()


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COGNITION_VARIABLE, raising=False)


def faces(identity: list[int] | None) -> Faces:
    generator = torch.Generator().manual_seed(1)
    hr = torch.rand(3, 3, SIDE, SIDE, generator=generator)
    noise = torch.rand(3, 3, SIDE, SIDE, generator=generator)
    known = None if identity is None else torch.tensor(identity)
    return Faces(hr, hr[..., ::8, ::8], 0.6 * hr + 0.4 * noise, known)


def make_core(
    reward: rewards.Reward | str, num_steps: int = 3, device: str = "cpu"
) -> HallucinationCore:
    return HallucinationCore(
        Shifted(),
        image_size=(SIDE, SIDE),
        reward=rewards.make(reward).for_people(PEOPLE),
        num_steps=num_steps,
        device=device,
    )


def average(image: Tensor) -> Tensor:
    number, channels, height, width = image.shape
    return image.reshape(number, channels, height // 8, 8, width // 8, 8).mean((3, 5))


def grams_apart(cognition: Cognition, one: Tensor, other: Tensor) -> Tensor:
    """Squared Frobenius distance of the Gram matrices of SphereFace's stages 2 and 3."""
    apart = torch.zeros(len(one), dtype=torch.float64)
    stages = cognition.recogniser.stages
    features = [list(stages((x * 255 - 127.5) / 128))[1:3] for x in (one, other)]
    for ours, theirs in zip(*features, strict=True):
        products = [torch.einsum("nihw,njhw->nij", f.double(), f.double()) for f in (ours, theirs)]
        apart += ((products[0] - products[1]) / ours[0].numel()).square().sum((1, 2))
    return apart


def angular_loss(embedding: Tensor, weight: Tensor, label: list[int]) -> list[float]:
    """Eq. 14 with m = 1.5, face by face."""
    losses = []
    for x, own in zip(embedding.double().numpy(), label, strict=True):
        length, columns = np.linalg.norm(x), weight.double().numpy()
        cosine = x @ columns / (length * np.linalg.norm(columns, axis=0))
        theta = math.acos(cosine[own])
        k = math.floor(1.5 * theta / math.pi)
        logits = length * cosine
        logits[own] = length * ((-1) ** k * math.cos(1.5 * theta) - 2 * k)
        losses.append(float(np.log(np.exp(logits).sum()) - logits[own]))
    return losses


def by_hand(name: str, cognition: Cognition, state: CoreState, label: list[int]) -> Tensor:
    """The loss that a term is minus of; patches lie inside of the image."""
    if name in PATCH_TERMS:
        ours, theirs = (
            torch.stack(
                [
                    image[:, y - 3 : y + 5, x - 3 : x + 5]
                    for image, (y, x) in zip(images, state.location.tolist(), strict=True)
                ]
            )
            for images in (state.image, state.hr)
        )
        if name.endswith("lr"):
            ours, theirs = average(ours), average(theirs)
    else:
        ours, theirs = state.image, state.hr
    if "mse" in name:
        return (ours.double() - theirs.double()).square().mean((1, 2, 3))
    if "texture" in name:
        return grams_apart(cognition, ours, theirs)
    embedded = cognition.recogniser.embed(ours)
    if name == "ipfh_feature":
        return (embedded - cognition.recogniser.embed(theirs)).double().square().sum(1)
    assert cognition.head is not None
    losses = angular_loss(embedded, cognition.head.weight, label)
    return torch.tensor(losses, dtype=torch.float64)


ACTIONS = [[10 * 32 + 10, 12 * 32 + 20, 5 * 32 + 7], [400, 4 * 32 + 26, 300], [200, 400, 600]]
"""One location inside of the image for each of three faces and steps."""


class TestTerms:
    @pytest.mark.parametrize("name", TERMS)
    def test_alone_it_is_the_return(self, name: str, cognition: Cognition) -> None:
        reward = IPFHReward(cognition, {other: float(other == name) for other in TERMS})
        core = make_core(reward)
        state = core.reset(faces([2, 0, 1]))
        paid, expected = [], []
        for number, action in enumerate(ACTIONS):
            state, earned, done = core.step(state, torch.tensor(action))
            paid.append(earned.double())
            due = (name in FACE_TERMS) == (number == 2)
            loss = by_hand(name, cognition, state, [2, 0, 1])
            expected.append(-loss if due else torch.zeros(3, dtype=torch.float64))
        assert done.all()
        for earned, wanted in zip(paid, expected, strict=True):
            torch.testing.assert_close(earned, wanted, rtol=1e-4, atol=1e-9)
        assert all((step < 0).all() for step, due in zip(paid, expected, strict=True) if due.any())

    def test_the_whole_reward_is_their_weighted_sum_and_says_so(self, cognition: Cognition) -> None:
        weights = {name: float(2 + number) for number, name in enumerate(TERMS)}
        core = make_core(IPFHReward(cognition, weights))
        state = core.reset(faces([0, 1, 1]))
        for number, action in enumerate(ACTIONS):
            before = state
            state, earned, done = core.step(state, torch.tensor(action))
            terms = core.reward.terms(before, state, done)
            assert list(terms) == list(TERMS)
            due = FACE_TERMS if number == 2 else tuple(PATCH_TERMS)
            for name, term in terms.items():
                wanted = -weights[name] * by_hand(name, cognition, state, [0, 1, 1])
                torch.testing.assert_close(
                    term, wanted if name in due else torch.zeros_like(wanted), rtol=1e-4, atol=1e-8
                )
            torch.testing.assert_close(earned.double(), sum(terms.values()), rtol=1e-5, atol=1e-6)

    def test_rows_at_different_steps_are_paid_for_their_own(self, cognition: Cognition) -> None:
        core = make_core(IPFHReward(cognition), num_steps=2)
        start = faces([0, 1, 2])
        state, _, _ = core.step(core.reset(start), torch.tensor(ACTIONS[0]))
        state = core.reset(start.rows(torch.tensor([1])), state, torch.tensor([1]))
        after, earned, done = core.step(state, torch.tensor(ACTIONS[1]))
        assert done.tolist() == [True, False, True]
        terms = core.reward.terms(state, after, done)
        for name, term in terms.items():
            over, going = name in FACE_TERMS, name in PATCH_TERMS
            assert (term != 0).tolist() == [over, going, over]
        for row in range(3):
            rows = torch.tensor([row])
            _, alone, _ = core.step(state.rows(rows), torch.tensor(ACTIONS[1])[rows])
            torch.testing.assert_close(alone[0], earned[row], rtol=1e-4, atol=1e-6)

    def test_what_a_patch_holds_outside_of_the_image_does_not_count(
        self, cognition: Cognition
    ) -> None:
        core = make_core(IPFHReward(cognition))
        state, _, _ = core.step(core.reset(faces([0, 1, 2])), torch.tensor([0, 31, 1023]))
        done = torch.zeros(3, dtype=torch.bool)
        first = core.reward.terms(state, state, done)
        state.patch[0, :, :3] = state.patch[1, :, :, 4:] = 0.9  # Rows above, columns to the right.
        for name, term in core.reward.terms(state, state, done).items():
            torch.testing.assert_close(term[:2], first[name][:2])
        # The corner shows the 5x5 pixels below and to the right of (0, 0).
        loss = (state.image - state.hr)[0, :, :5, :5].double().square().mean()
        assert first["ipfh_patch_mse_hr"][0].item() == pytest.approx(-loss.item(), rel=1e-4)

    def test_a_better_face_is_paid_more(self, cognition: Cognition) -> None:
        core = make_core(IPFHReward(cognition, {"ipfh_identity": 0}), num_steps=1)
        state, worse, done = core.step(core.reset(faces(None)), torch.tensor(ACTIONS[0]))
        state.image = 0.5 * state.image + 0.5 * state.hr
        state.mse = state.mse / 4
        terms = core.reward.terms(state, state, done)
        assert (sum(terms.values()) > worse).all()  # type: ignore[operator]

    def test_a_comparison_of_ones_own(self, cognition: Cognition) -> None:
        class Doubled(DualConsistency):
            def terms(self, *images: Tensor, **settings: object) -> dict[str, Tensor]:  # type: ignore[override]
                compared = super().terms(*images, **settings)  # type: ignore[arg-type]
                return {name: 2 * loss for name, loss in compared.items()}

        only = {name: float(name == "ipfh_patch_mse_hr") for name in TERMS}
        state = make_core("delta_mse").reset(faces(None))
        paid = [
            make_core(IPFHReward(None, only, consistency=compare)).step(
                state, torch.tensor(ACTIONS[0])
            )[1]
            for compare in (None, Doubled(8))
        ]
        torch.testing.assert_close(paid[1], 2 * paid[0])


@pytest.mark.gpu
def test_a_gpu_pays_what_the_cpu_pays(cognition: Cognition) -> None:
    paid = []
    for device in ("cpu", "cuda"):
        core = make_core(IPFHReward(cognition), device=device)
        state, total = core.reset(faces([0, 1, 2])), torch.zeros(3)
        for action in ACTIONS:
            state, earned, _ = core.step(state, torch.tensor(action, device=device))
            assert earned.device.type == device
            total += earned.cpu()
        paid.append(total)
    torch.testing.assert_close(paid[0], paid[1], rtol=1e-3, atol=1e-5)


class TestNames:
    def test_errors_alone_need_no_network(self, unnamed: None) -> None:
        core = make_core(" + ".join(WITHOUT_NETWORK))
        state = core.reset(faces(None))
        for action in ACTIONS:
            before = state
            state, _, done = core.step(state, torch.tensor(action))
        terms = core.reward.terms(before, state, done)
        assert list(terms) == list(WITHOUT_NETWORK)
        torch.testing.assert_close(terms["ipfh_face_mse"], -state.mse)

    def test_the_environment_variable_names_the_network(
        self, cognition: Cognition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_cognition(cognition, tmp_path / "cognition.safetensors")
        monkeypatch.setenv(COGNITION_VARIABLE, str(tmp_path / "cognition.safetensors"))
        named = make_core("2*ipfh_feature + ipfh_identity + ipfh", num_steps=1)
        given = make_core(
            IPFHReward(cognition, {"ipfh_feature": 3, "ipfh_identity": 2}), num_steps=1
        )
        state = named.reset(faces([0, 1, 2]))
        action = torch.tensor(ACTIONS[0])
        torch.testing.assert_close(named.step(state, action)[1], given.step(state, action)[1])

    def test_a_network_that_was_trained_again_is_read_again(
        self, cognition: Cognition, tmp_path: Path
    ) -> None:
        path = tmp_path / "cognition.safetensors"
        paid = []
        for factor in (1.0, 2.0):
            cognition.recogniser.get_submodule("fc5").weight.data *= factor  # type: ignore[operator]
            save_cognition(cognition, path)
            only = {name: float(name == "ipfh_feature") for name in TERMS}
            core = make_core(IPFHReward(path, only), num_steps=1)
            paid.append(core.step(core.reset(faces(None)), torch.tensor(ACTIONS[0]))[1])
        torch.testing.assert_close(paid[1], 4 * paid[0])

    def test_they_are_written_as_they_are_read(self, cognition: Cognition) -> None:
        assert str(rewards.make("ipfh")) == "ipfh"
        mixed = rewards.make("ipfh_feature + 0.5*ipfh_patch_mse_hr + delta_mse")
        assert str(rewards.make(str(mixed))) == str(mixed)
        two = IPFHReward(cognition, {name: 0 for name in TERMS if "mse" not in name})
        assert str(two) == "ipfh_patch_mse_hr + ipfh_patch_mse_lr + ipfh_face_mse"
        assert set(TERMS) | {"ipfh"} <= set(rewards.available())

    def test_bad_weights_are_named(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'ipfh_feature'"):
            IPFHReward(weights={"ipfh_features": 1})
        with pytest.raises(ConfigurationError, match="All weights of the IPFH reward are 0"):
            IPFHReward(weights=dict.fromkeys(TERMS, 0))


class TestPeople:
    def test_the_network_knows_people_by_its_own_numbers(self, cognition: Cognition) -> None:
        """The dataset counts ann, bob and dan; the network ann, bob and cat."""
        identity = IPFHReward.only("ipfh_identity").weights
        reward = IPFHReward(cognition, {name: name in identity for name in TERMS})
        core = make_core(reward, num_steps=1)
        core.reward = reward.for_people(("Bert", "ann", "bob", "dan"))
        state = core.reset(faces([2, 3, 1]))
        after, earned, _ = core.step(state, torch.tensor(ACTIONS[0]))
        assert isinstance(core.reward, IPFHReward)
        assert core.reward.labels(after).tolist() == [1, -1, 0]
        loss = by_hand("ipfh_identity", cognition, after, [1, 0, 0])
        assert earned[1].item() == 0  # Nothing is known of dan.
        torch.testing.assert_close(earned.double()[[0, 2]], -loss[[0, 2]], rtol=1e-4, atol=1e-6)

    def test_unknown_faces_are_nobodys(self, cognition: Cognition) -> None:
        reward = IPFHReward(cognition).for_people(PEOPLE)
        assert isinstance(reward, IPFHReward)
        state = make_core("delta_mse").reset(faces([-1, 2, -1]))
        assert reward.labels(state).tolist() == [-1, 2, -1]

    def test_numbers_of_an_unknown_dataset_mean_nobody(self, cognition: Cognition) -> None:
        core = make_core("delta_mse", num_steps=1)
        core.reward = IPFHReward(cognition)
        with pytest.raises(ConfigurationError, match=r"reward\.for_people\(dataset\.people\)"):
            core.step(core.reset(faces([0, 1, 2])), torch.tensor(ACTIONS[0]))

    def test_a_dataset_of_strangers_is_refused(self, cognition: Cognition) -> None:
        with pytest.raises(ConfigurationError, match=r"3 people, and none of\s+the dataset's 2"):
            IPFHReward(cognition).for_people(["Eve", "Zoe"])

    def test_a_dataset_without_identities_is_refused_at_once(self, cognition: Cognition) -> None:
        with pytest.raises(ConfigurationError, match="'ipfh_identity' asks who is on a face"):
            make_env(reward=IPFHReward(cognition), dataset=Strangers())
        core = make_core(IPFHReward(cognition), num_steps=1)
        with pytest.raises(ConfigurationError, match="'ipfh_identity' asks who is on a face"):
            core.step(core.reset(faces(None)), torch.tensor(ACTIONS[0]))
        without = IPFHReward(cognition, {"ipfh_identity": 0})
        assert make_env(reward=without, dataset=Strangers()).reset()[1]["index"] >= 0


def make_env(**settings: object) -> gym.Env[dict[str, np.ndarray], int]:
    settings = {
        "dataset": People(),
        "scale": 8,
        "enhancer": Shifted(),
        "patch_size": (PATCH, PATCH),
        "num_steps": 2,
        **settings,
    }
    return gym.make("FaceHallucination-IPFH-v0", **settings)  # type: ignore[arg-type, no-any-return]


class TestEnvironment:
    def test_it_works_without_any_weights(self, unnamed: None) -> None:
        env = gym.make("FaceHallucination-IPFH-v0", enhancer="bicubic")
        env.reset(seed=0)
        for _ in range(20):
            _, reward, terminated, _, info = env.step(4_000)
        assert terminated
        assert reward == pytest.approx(-info["mse"])

    def test_without_a_network_it_says_where_to_get_one(self, unnamed: None) -> None:
        with pytest.raises(ConfigurationError, match=r"`facehall train cognition`.*FACEHALL_COGN"):
            make_env(reward="ipfh")

    def test_a_missing_file_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(COGNITION_VARIABLE, str(tmp_path / "gone.safetensors"))
        with pytest.raises(WeightsError, match=r"gone\.safetensors"):
            make_env(reward="ipfh")

    def test_all_terms_are_in_the_information(self, cognition: Cognition) -> None:
        env = make_env(reward=IPFHReward(cognition))
        env.reset(options={"index": 4})
        returned = 0.0
        for due in (tuple(PATCH_TERMS), FACE_TERMS):
            _, reward, _, _, info = env.step(500)
            returned += float(reward)
            terms = info["reward_terms"]
            assert [name for name, term in terms.items() if term != 0] == list(due)
            assert reward == pytest.approx(sum(terms.values()), rel=1e-5)
        assert info["episode_summary"]["return"] == pytest.approx(returned, rel=1e-5)

    def test_terms_are_computed_once_a_step(self, cognition: Cognition) -> None:
        class Counted(IPFHReward):
            calls = 0

            def terms(self, before: CoreState, after: CoreState, done: Tensor) -> dict[str, Tensor]:
                Counted.calls += 1
                return super().terms(before, after, done)

        env = make_env(reward=Counted(cognition))
        env.reset(seed=0)
        for _ in range(2):
            env.step(7)
        assert Counted.calls == 2

    @pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
    def test_a_vector_of_them_pays_as_each_alone(self, cognition: Cognition, mode: str) -> None:
        envs = gym.make_vec(
            "FaceHallucination-IPFH-v0",
            num_envs=2,
            dataset=People(),
            scale=8,
            enhancer=Shifted(),
            patch_size=(PATCH, PATCH),
            num_steps=2,
            reward=IPFHReward(cognition),
            autoreset_mode=mode,
        )
        singles = [make_env(reward=IPFHReward(cognition)) for _ in range(2)]
        envs.reset(seed=3)
        for number, env in enumerate(singles):
            env.reset(seed=3 + number)
        for actions in ((100, 900), (333, 20)):
            _, reward, *_ = envs.step(list(actions))
            alone = [env.step(action)[1] for env, action in zip(singles, actions, strict=True)]
            np.testing.assert_allclose(reward, alone, rtol=1e-4)
