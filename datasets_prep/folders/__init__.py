"""Operations on the folders of data sets: locks, verified reads, copies of samples, derived folders."""
