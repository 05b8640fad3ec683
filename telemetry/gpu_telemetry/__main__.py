"""`python -m gpu_telemetry` is the command `gpu-telemetry`."""

import sys

from gpu_telemetry.cli import main

sys.exit(main())
