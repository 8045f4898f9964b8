;; expect: output
;; assets: a deep/b
(module
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "a")
  (func (export "_start")
    (if (i32.ne (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 1)) (i32.const 69)) (then (unreachable)))))
