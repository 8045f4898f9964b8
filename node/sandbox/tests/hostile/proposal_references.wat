;; expect: bad-package
;; says: not a module that runs here
(module
  (type $f (func))
  (memory (export "memory") 1)
  (func $g)
  (elem declare func $g)
  (func (export "_start") (call_ref $f (ref.func $g))))
