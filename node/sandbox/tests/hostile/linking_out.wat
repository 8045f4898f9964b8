;; expect: output
;; assets: a deep/b
(module
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "/etc")
  (func (export "_start")
    (if (i32.ne (call $path_symlink (i32.const 0) (i32.const 4) (i32.const 3) (i32.const 0) (i32.const 4)) (i32.const 69)) (then (unreachable)))))
