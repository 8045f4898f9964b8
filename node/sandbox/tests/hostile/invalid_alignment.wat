;; expect: bad-package
;; says: not a module that runs here
(module
  (memory (export "memory") 1)
  (func (export "_start") (drop (i32.load align=8 (i32.const 0)))))
