#!/bin/sh
# The tests that need a CUDA device, for whoever gets one: the same draws, the same heads, the same board as on the CPU.
# PYTHON names an interpreter that has ltbench, its plugins and pytest.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
"$python" -c "import torch; assert torch.cuda.is_available(), 'no CUDA device here'; print(torch.cuda.get_device_name())"
exec "$python" -m pytest -m gpu "$@"
