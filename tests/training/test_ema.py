"""A teacher follows its student in float32, whatever becomes of the module around it."""

import pytest
import torch
from torch import nn

from primum.training.ema import Teacher, rising_momentum


def test_it_follows_by_the_exact_share() -> None:
    student = nn.Linear(3, 2)
    teacher = Teacher(student)
    before = teacher.network.weight.clone()
    with torch.no_grad():
        student.weight.add_(1.0)
    teacher.follow(student, 0.75)
    torch.testing.assert_close(teacher.network.weight, before + 0.25)


def test_it_is_a_copy_without_gradients_that_stays_in_evaluation_mode() -> None:
    student = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    teacher = Teacher(student).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert student[0].weight.requires_grad and student.training


@pytest.mark.parametrize("cast", ["bfloat16", "half"])
def test_a_cast_of_the_module_around_it_leaves_it_in_float32(cast: str) -> None:
    student = nn.Linear(64, 64)
    both = nn.ModuleDict({"student": student, "teacher": Teacher(student)})
    exact = both["teacher"].network.weight.clone()
    getattr(both, cast)()
    assert student.weight.dtype != torch.float32
    assert torch.equal(both["teacher"].network.weight, exact)


def test_a_thousand_small_steps_arrive_where_a_bf16_average_stands_still() -> None:
    student = nn.Linear(64, 64).bfloat16()
    teacher, plain = Teacher(student), nn.Linear(64, 64).bfloat16()
    plain.load_state_dict(student.state_dict())
    with torch.no_grad():
        student.weight.mul_(1.02)
        for _ in range(1000):
            teacher.follow(student, 0.996)
            plain.weight.lerp_(student.weight, 0.004)
    way = (teacher.network.weight - student.weight).norm() / student.weight.float().norm()
    assert way < 1e-3
    assert (plain.weight - student.weight).float().norm() / student.weight.float().norm() > 1e-2


def test_buffers_are_copied() -> None:
    student = nn.BatchNorm1d(3)
    teacher = Teacher(student)
    student(torch.randn(8, 3))
    teacher.follow(student, 0.5)
    assert torch.equal(teacher.network.running_mean, student.running_mean)


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="different networks"):
        Teacher(nn.Linear(2, 2)).follow(nn.Sequential(nn.Linear(2, 2)), 0.5)


def test_momentum_ends_at_one() -> None:
    assert rising_momentum(0.99, 0.0) == pytest.approx(0.99)
    assert rising_momentum(0.99, 1.0) == rising_momentum(0.99, 1.7) == 1.0
