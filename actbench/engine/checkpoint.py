"""Checkpoints: a lane's state as bytes and back, so that an interrupted run can continue.

The format is safetensors: named tensors, no code, no pickle.
"""

from __future__ import annotations

import json

import safetensors
import safetensors.torch
import torch
from torch import Tensor

import actbench
from actbench.engine.measure import Measurer
from actbench.neurons import DeathLedger

_MAKER = f"actbench {actbench.__version__} with torch {torch.__version__}"


def save_lane(measurer: Measurer, lane: int) -> bytes:
    """Return everything that the rest of a lane's run depends on: parameters, optimizer, generators, rows."""
    stack, ledger = measurer.stack, measurer.ledger
    tensors = stack.state(lane) | {"order": stack.orders[lane].get_state()}
    tensors |= {f"noise.{purpose}": state for purpose, state in stack.noise.state(lane).items()}
    if ledger is not None:
        tensors |= {"ledger.dead": ledger.dead[lane], "ledger.died_in": ledger.died_in[lane]}
    texts = {"rows": json.dumps([measurer.rows[lane], measurer.layer_rows[lane]]), "maker": _MAKER}
    tensors |= {name: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) for name, text in texts.items()}
    return safetensors.torch.save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})


def restore_lane(measurer: Measurer, lane: int, data: bytes) -> None:
    """Restore the state that `save_lane` stored.

    Raises ValueError (or safetensors' own error) for bytes that are not a checkpoint of this kind of run.
    """
    stack, tensors = measurer.stack, safetensors.torch.load(data)
    (rows, layer_rows), _ = json.loads(_text(tensors.pop("rows"))), tensors.pop("maker")
    order = tensors.pop("order")
    drawn = {name: tensors.pop(name) for name in list(tensors) if name.startswith("noise.")}
    dead, died_in = tensors.pop("ledger.dead", None), tensors.pop("ledger.died_in", None)
    stack.load_state(lane, tensors)
    stack.orders[lane].set_state(order)
    stack.noise.load_state(lane, {name.removeprefix("noise."): state for name, state in drawn.items()})
    measurer.rows[lane], measurer.layer_rows[lane] = rows, layer_rows
    if dead is not None and died_in is not None:
        if measurer.ledger is None:
            measurer.ledger = DeathLedger.begin(torch.zeros(len(stack.runs), len(dead), dtype=torch.bool))
        measurer.ledger.dead[lane], measurer.ledger.died_in[lane] = dead, died_in


def epochs_done(data: bytes) -> int:
    """Return how many epochs of training a checkpoint contains.

    Raises ValueError for bytes that are not a checkpoint, and for a checkpoint made by another version of actbench or
    torch: nothing could reproduce a run that continued from it.
    """
    try:
        tensors = safetensors.torch.load(data)
        maker, rows = _text(tensors["maker"]), json.loads(_text(tensors["rows"]))[0]
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"it is no checkpoint ({error})") from None
    if maker != _MAKER:
        raise ValueError(f"it was made by {maker}, this is {_MAKER}")
    return len(rows) - 1


def _text(tensor: Tensor) -> str:
    return bytes(tensor.tolist()).decode()
