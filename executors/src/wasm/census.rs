//! Which instructions of a module work on floating-point numbers or vectors, and in which functions.

use wasmparser::{FunctionBody, Operator};

/// Counts of one kind of instruction.
#[derive(Debug, Clone, Default)]
pub(super) struct Count {
    /// Instructions in all.
    pub(super) instructions: u64,
    /// Functions with at least one of them, with how many they have.
    pub(super) functions: Vec<(u32, u64)>,
}

/// What a module's code works on.
#[derive(Debug, Clone, Default)]
pub(super) struct Census {
    /// All instructions.
    pub(super) instructions: u64,
    /// Those on floating-point numbers, in vectors too.
    pub(super) float: Count,
    /// Those on vectors.
    pub(super) simd: Count,
}

impl Census {
    /// Counts a function's instructions, as far as they can be read.
    pub(super) fn take(&mut self, function: u32, body: &FunctionBody<'_>) {
        let (mut float, mut simd) = (0, 0);
        let Ok(operators) = body.get_operators_reader() else { return };
        for operator in operators.into_iter().map_while(Result::ok) {
            let class = class(&operator);
            self.instructions += 1;
            float += u64::from(class.float);
            simd += u64::from(class.simd);
        }
        self.float.add(function, float);
        self.simd.add(function, simd);
    }
}

impl Count {
    fn add(&mut self, function: u32, instructions: u64) {
        if instructions > 0 {
            self.instructions += instructions;
            self.functions.push((function, instructions));
        }
    }

    /// The functions with the most of them, the first ones if several have as many.
    pub(super) fn top(&self, limit: usize) -> Vec<(u32, u64)> {
        let mut functions = self.functions.clone();
        functions.sort_by_key(|(index, count)| (u64::MAX - count, *index));
        functions.truncate(limit);
        functions
    }
}

/// What an instruction works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class {
    float: bool,
    simd: bool,
}

impl Class {
    /// By the instruction's proposal and name: `F32Add`, `I64TruncF64S`, `F64x2Mul`, `V128Load`.
    const fn of(proposal: &str, name: &str) -> Self {
        let simd = contains(proposal, "simd");
        Self { float: contains(name, "F32") || contains(name, "F64"), simd }
    }
}

const fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    let mut start = 0;
    while start + part.len() <= text.len() {
        let mut same = 0;
        while same < part.len() && text[start + same] == part[same] {
            same += 1;
        }
        if same == part.len() {
            return true;
        }
        start += 1;
    }
    false
}

macro_rules! define_class {
    ($(@$proposal:ident $operator:ident $({ $($argument:ident: $type:ty),* })? => $visit:ident ($($rest:tt)*))*) => {
        fn class(operator: &Operator<'_>) -> Class {
            match operator {
                $(Operator::$operator { .. } => const { Class::of(stringify!($proposal), stringify!($operator)) },)*
                _ => Class { float: false, simd: false },
            }
        }
    };
}

wasmparser::for_each_operator!(define_class);

#[cfg(test)]
mod tests {
    use wasmparser::{Ieee32, MemArg};

    use super::*;

    #[test]
    fn instructions_are_of_the_class_that_their_name_says() {
        let memarg = MemArg { align: 0, max_align: 0, offset: 0, memory: 0 };
        let table = [
            (Operator::I32Add, (false, false)),
            (Operator::F64Sqrt, (true, false)),
            (Operator::F32Const { value: Ieee32::from(1.0) }, (true, false)),
            (Operator::I64TruncSatF32U, (true, false)),
            (Operator::F64Load { memarg }, (true, false)),
            (Operator::I8x16Add, (false, true)),
            (Operator::F32x4Mul, (true, true)),
            (Operator::V128Load { memarg }, (false, true)),
            (Operator::F64x2RelaxedMadd, (true, true)),
        ];
        for (operator, (float, simd)) in table {
            assert_eq!(class(&operator), Class { float, simd }, "{operator:?}");
        }
    }
}
