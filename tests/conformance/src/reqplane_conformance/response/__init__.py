"""Response planes: what each must do, case by case."""
