"""Discovery backends: what each must do, case by case."""
