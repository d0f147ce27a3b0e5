"""``python -m golden.checkpoint DIR --tokens ids.json --output kv.safetensors``."""

from pathlib import Path

import click
from safetensors import SafetensorError
from safetensors.torch import save_file

from golden.checkpoint.capture import CheckpointKV, capture_checkpoint
from golden.checkpoint.files import CheckpointError, read_json
from golden.tensors import FP16_LARGEST


def write_tensors(captured: CheckpointKV, path: Path) -> None:
    """Write the file that ``golden.user_tensors`` reads, in float16.

    Raises
    ------
    CheckpointError
        A tensor has an element that is not finite in float16, or the file cannot be written.
    """
    halves = {name: getattr(captured, name).half() for name in ("key", "value", "query")}
    for name, half in halves.items():
        if not bool(half.isfinite().all()):
            largest = float(getattr(captured, name).abs().max())
            raise CheckpointError(
                f"{name} must be finite and at most {FP16_LARGEST:.0f} in size (FP16), "
                f"not {largest}"
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(halves, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def read_tokens(path: Path) -> list[int]:
    """The token ids in a JSON file, a list of integers.

    Raises
    ------
    CheckpointError
        The file cannot be read or holds something else.
    """
    tokens = read_json(path)
    if not isinstance(tokens, list):
        raise CheckpointError(f"{path}: must be a list of token ids, not {type(tokens).__name__}")
    for place, token in enumerate(tokens):
        if not isinstance(token, int) or isinstance(token, bool):
            raise CheckpointError(f"{path}: token {place} must be an integer, not {token!r}")
    return tokens


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--tokens", required=True, type=click.Path(path_type=Path), help="Token ids, JSON.")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="The safetensors file."
)
def main(directory: Path, tokens: Path, output: Path) -> None:
    """Capture keys, values and queries of the Llama checkpoint in DIRECTORY."""
    try:
        captured = capture_checkpoint(directory, read_tokens(tokens))
        write_tensors(captured, output)
    except CheckpointError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from error
    layers, kv_heads, length, head_dim = captured.key.shape
    rows = captured.query.shape[1] // kv_heads
    click.echo(f"{output}: {length} tokens; for a configuration with")
    click.echo(f"head_dim = {head_dim}\nrows = {rows}\nlayers = {layers}\nkv_heads = {kv_heads}")


if __name__ == "__main__":
    main(prog_name="python -m golden.checkpoint")
