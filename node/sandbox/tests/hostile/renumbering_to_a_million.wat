;; expect: output
(module
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $fd_renumber (i32.const 1) (i32.const 1000000)) (i32.const 8)) (then (unreachable)))))
