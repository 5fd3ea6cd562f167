"""python -m cbmir"""

from .cli import main

main()
