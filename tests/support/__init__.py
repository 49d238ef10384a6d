"""What several tests share, and scripts that tests run in processes of their own.

Inputs: `pictures`, `sounds`, `profiles` (ICC), `odd_inputs` (files of every odd kind), `fragile` (a preparation whose
samples fail), `fake_hub` and `web_servers`, `slow_file_system`. Data sets: `small_sets` and `tiny_datasets` write some,
`any_samples` and `any_sets` draw any layout for property tests. What results are compared with: `walloc_reference`,
`rows_first`, `interpreted` (Triton's kernels on the CPU), `trees`, `drawn_rows`, `reading_sources`. Failures and
memory: `faults`, `every_call`, `altered_folders`, `mutations`, `commands`, `memory`, `sampled_peak`.

Run with `python -m tests.support.NAME`, from the root or by a test: `forked_jobs`, `rival_jobs`, `fuzz_archives`,
`many_rows` and `memory_of_jobs` report as JSON; `written_bytes` compares two checkouts. `measured_workers` is a plugin
of pytest for `make coverage`. `paths` says where the checkout lies.
"""
