"""Operations on turns: queued, run, checked, steered, cancelled, recovered."""
