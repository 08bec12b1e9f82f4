;; One of everything: what an export gives stands in the test.
(module
  (type $pair (func (param i32 i32) (result i32 i32)))
  (type $binary (func (param i32 i32) (result i32)))
  (memory (export "memory") 1 3)
  (table $table 4 funcref)
  (tag $tag (param i32 i64))
  (tag $empty)
  (global $started (export "z-started") (mut i32) (i32.const 0))
  (elem (table $table) (i32.const 1) func $add $subtract)
  (elem $passive func $add)
  (elem declare func $swap)
  (data $hello "hello")
  (start $start)
  (func $start (global.set $started (i32.add (global.get $started) (i32.const 1))))
  (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
  (func $subtract (type $binary) (i32.sub (local.get 0) (local.get 1)))
  (func $swap (type $pair) (local.get 1) (local.get 0))

  ;; Indirect and tail calls: 40 + 2.
  (func $indirect (param i32) (result i32)
    (return_call_indirect $table (type $binary) (i32.const 40) (i32.const 2) (local.get 0)))
  (func (export "a") (result i32)
    (local i32) (local.set 0 (call_indirect $table (type $binary) (i32.const 1) (i32.const 1) (i32.const 2)))
    (i32.add (local.get 0) (call $indirect (i32.const 1))))

  ;; Several results, through blocks with parameters.
  (func (export "b") (result i32 i32)
    (i32.const 9) (i32.const 7)
    (block (type $pair) (br_if 0 (i32.const 1)) (unreachable))
    (loop (type $pair) (call $swap) (call $swap))
    (call $swap))

  ;; Exceptions, through a frame that does not catch them: 2 + 3.
  (func $throw (param i32) (throw $tag (local.get 0) (i64.const 3)))
  (func $between (param i32) (call $throw (local.get 0)) (unreachable))
  (func (export "c") (result i32)
    (local i64)
    (block $caught (result i32 i64)
      (try_table (catch $tag $caught) (call $between (i32.const 2)))
      (unreachable))
    (local.set 0)
    (i32.add (i32.wrap_i64 (local.get 0))))

  ;; Caught by reference, thrown again, caught by the second clause.
  (func (export "d") (result i32)
    (local i32 i64)
    (block $out
      (block $wrong (result i32 i64)
        (try_table (catch $tag $wrong) (catch_all $out)
          (block $again (result exnref)
            (try_table (catch_all_ref $again) (throw $empty))
            (unreachable))
          (throw_ref))
        (unreachable))
      (unreachable))
    (return (i32.const 3)))

  ;; A switch, a loop, early returns.
  (func $switch (param i32) (result i32)
    (block (block (block (br_table 0 1 2 (local.get 0)))
      (return (i32.const 10)))
      (return (i32.const 1)))
    (i32.const 12))
  (func (export "e") (result i32) (call $switch (i32.const 1)))

  ;; Bulk work: what is copied, filled and grown.
  (func (export "f") (result i32 i32)
    (memory.init $hello (i32.const 8) (i32.const 0) (i32.const 5))
    (memory.copy (i32.const 9) (i32.const 8) (i32.const 5))
    (memory.fill (i32.const 100) (i32.const 7) (i32.const 50))
    (table.init $table $passive (i32.const 3) (i32.const 0) (i32.const 1))
    (table.copy (i32.const 0) (i32.const 3) (i32.const 1))
    (table.fill $table (i32.const 3) (ref.func $swap) (i32.const 1))
    (drop (table.grow $table (ref.null func) (i32.const 2)))
    (drop (memory.grow (i32.const 1)))
    (drop (memory.grow (i32.const 9)))
    (memory.size)
    (ref.is_null (table.get $table (i32.const 5))))

  ;; Code that is never reached, with frames of its own.
  (func (export "g") (result i32)
    (block (br 0) (block (loop (br 1) (unreachable))) (if (i32.const 1) (then) (else (nop))))
    (if (result i32) (i32.const 1) (then (return (i32.const 11)) (drop)) (else (unreachable))))

  ;; Atomics on memory of one's own.
  (func (export "h") (result i64)
    (i64.atomic.store (i32.const 16) (i64.const 5))
    (drop (i32.atomic.rmw.add (i32.const 20) (i32.const 1)))
    (i64.atomic.load (i32.const 16))))
