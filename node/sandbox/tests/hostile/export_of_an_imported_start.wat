;; expect: bad-package
;; says: does not export a function `_start`
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $f (result i32)))
  (memory (export "memory") 1)
  (export "_start" (func $f)))
