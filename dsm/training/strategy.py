"""How Lightning drives a sharded model, and which of its strategies a layout means.

The model is cut when it is built (`dsm.models.build`), before Lightning sees it: what is left to the strategy is to
sum gradients once a step, and to say which processes see which data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from dsm.config.parallel import ParallelConfig
from dsm.config.run import TrainingConfig
from dsm.models.sharding import Sharding
from dsm.models.tensor import sum_whole_gradients
from dsm.models.wrapper import CausalLM
from dsm.runtime.launch import World, own_device, wait_without_limit


def model_sharding(config: TrainingConfig, world: World) -> Sharding | None:
    """How the run's model is to be built: in shards, or whole on every process."""
    if world.layout.strategy != "fsdp":
        return None
    device = own_device(config.parallel, world)
    precision: Literal["bf16", "fp32"] = "bf16" if config.precision(device.type) == "bf16" else "fp32"
    reshard = config.parallel.reshard_after_forward
    sharding = Sharding.over(world.layout, device, precision, reshard_after_forward=reshard)
    wait_without_limit()
    return sharding


def choose_strategy(model: CausalLM, parallel: ParallelConfig, world: World) -> Strategy | str:
    """For `pl.Trainer(strategy=...)`."""
    if model.sharding is not None:
        strategy = FSDP2Strategy(model.sharding, parallel.reduce_gradients)
        wait_without_limit()
        return strategy
    if world.size > 1:
        return DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=False)
    return "auto"


class FSDP2Strategy(ModelParallelStrategy):
    """FSDP2 over `replicate x shard x tensor` for a module whose `model` is a `CausalLM` built in shards.

    Lightning's own knows two dimensions, shards in `configure_model`, and sums gradients on every micro-batch. Its
    checkpoints are not used: they hold no random state and are not written at once (`dsm.training.checkpoint`).
    """

    def __init__(self, sharding: Sharding, reduce_gradients: Literal["step", "microbatch"] = "step") -> None:
        super().__init__(data_parallel_size=sharding.data_mesh.size(), tensor_parallel_size=sharding.tensor)
        self.sharding = sharding
        self.reduce_gradients = reduce_gradients
        self._synchronises = True
        self._data_group: dist.ProcessGroup | None = None
        if sharding.tensor > 1:
            shape = (sharding.mesh.size() // sharding.tensor, sharding.tensor)
            mesh = init_device_mesh(sharding.device.type, shape, mesh_dim_names=("data", "tensor"))
            self._data_group = mesh["data"].get_group()

    @property
    def data_group(self) -> dist.ProcessGroup | None:
        """The processes that see different data; None for all of them."""
        return self._data_group

    @property
    def causal_lm(self) -> CausalLM:
        """The sharded model."""
        assert self.lightning_module is not None
        model = self.lightning_module.model
        assert isinstance(model, CausalLM)
        return model

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """For samplers of Lightning's making; ours need none."""
        return {
            "num_replicas": self.sharding.mesh.size() // self.sharding.tensor,
            "rank": dist.get_rank() // self.sharding.tensor,
        }

    def setup_environment(self) -> None:
        """Join processes that have met already; the mesh is the model's."""
        self._setup_distributed()
        self._device_mesh = self.sharding.mesh

    def setup(self, trainer: pl.Trainer) -> None:
        """The optimiser, over parameters that are shards on their device already."""
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        self.model_to_device()  # what is not the model's
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """For micro-batches but the last: gradients stay with the process that made them, whole and in fp32.

        Or, with reduce_gradients="microbatch", with the shards; copies of the model still wait for the last one.
        """
        model: Any = self.causal_lm
        switch = model.set_requires_all_reduce
        if self.reduce_gradients == "step":
            switch = model.set_requires_gradient_sync
        switch(False)
        self._synchronises = False
        try:
            yield
        finally:
            switch(True)
            self._synchronises = True

    def post_backward(self, closure_loss: Tensor) -> None:
        """After a step's last backward pass: what tensor parallelism leaves to be summed."""
        super().post_backward(closure_loss)
        if self._synchronises and self.sharding.tensor > 1:
            sum_whole_gradients(self.causal_lm, self.sharding.mesh["tensor"])
