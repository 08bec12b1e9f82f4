//! A large module, the same every time, with as much to compile in each byte as programs have.

/// Operations in a function.
const OPERATIONS: usize = 256;
/// Bytes of a function, about.
const FUNCTION_BYTES: usize = OPERATIONS * 10;

/// A module of about `mib` MiB whose `_start` is its first function.
pub(super) fn module(mib: u32) -> Vec<u8> {
    let count = ((mib as usize) << 20) / FUNCTION_BYTES + 1;
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 0, 0]);
    section(&mut module, 3, &[leb(count), vec![0; count]].concat());
    section(&mut module, 5, &[1, 0, 1]);
    section(&mut module, 7, b"\x01\x06_start\0\0");
    let mut code = leb(count);
    for number in 0..count {
        let body = body(number);
        code.extend(leb(body.len()));
        code.extend(body);
    }
    section(&mut module, 10, &code);
    module
}

/// Two locals of type i32, read from memory so that nothing is known when compiling, and a store of what is computed
/// from them.
fn body(number: usize) -> Vec<u8> {
    let mut body = vec![1, 2, 0x7f];
    for local in 0..2 {
        body.extend([0x41, 0, 0x28, 2, 4 * local, 0x21, local]);
    }
    for operation in 0..OPERATIONS {
        let constant = number.wrapping_mul(31).wrapping_add(operation.wrapping_mul(17)) % 63;
        // local[a] = (local[a] op local[b]) op constant, with add, sub, xor, rotl in turn: none loses what came before.
        let operators = [0x6a, 0x73, 0x6b, 0x77];
        // Every eighth is stored as well, each to a place of its own.
        let (to, other) = (operation % 2, (operation + 1) % 2);
        let [to, other, constant] = [to, other, constant].map(|small| small.to_le_bytes()[0]);
        body.extend([0x20, to, 0x20, other, operators[(number + operation) % 4]]);
        body.extend([0x41, constant | 1, operators[(operation + 1) % 4], 0x21, to]);
        if operation % 8 == 0 {
            body.extend([0x41, 8, 0x20, to, 0x36, 2, constant]);
        }
    }
    // i32.store(0, local 0), so that nothing can be left out.
    body.extend([0x41, 0, 0x20, 0, 0x36, 2, 0, 0x0b]);
    body
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    module.extend(leb(content.len()));
    module.extend(content);
}

/// A number in LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_module_has_the_size_that_was_asked_for() {
        let mib = super::module(2).len() as f64 / f64::from(1 << 20);
        assert!((1.8..2.2).contains(&mib), "{mib}");
    }
}
