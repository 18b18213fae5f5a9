//! Whether the processor can run what the compiler was allowed to use.

/// Said in one piece: putting a sentence together might use the very instructions that are missing.
macro_rules! no {
    ($name:literal) => {
        concat!(
            "error: this build is for processors of x86-64-v3, and this one has no ",
            $name,
            "; take one that was built without -C target-cpu=x86-64-v3\n"
        )
    };
}

/// What a build for x86-64-v3 uses: what to say without it, which register tells of it, and the bit there. Registers: C of leaf 1, B of leaf 7, C
/// of leaf 0x8000_0001.
const WANTED: [(&str, usize, u32); 8] = [
    (no!("sse4.2"), 0, 20),
    (no!("avx"), 0, 28),
    (no!("avx2"), 1, 5),
    (no!("fma"), 0, 12),
    (no!("bmi1"), 1, 3),
    (no!("bmi2"), 1, 8),
    (no!("lzcnt"), 2, 5),
    (no!("movbe"), 0, 22),
];

/// What to say on a processor with these registers; `None` if it has all that a build for x86-64-v3 uses.
fn complaint(registers: [u32; 3]) -> Option<&'static str> {
    let has = |register: usize, bit: u32| registers.get(register).is_some_and(|register| register >> bit & 1 == 1);
    WANTED.iter().find(|(_, register, bit)| !has(*register, *bit)).map(|(sentence, ..)| *sentence)
}

/// The registers, as far as this build needs them.
fn registers() -> [u32; 3] {
    // Not `is_x86_feature_detected!`, which believes the compiler where that was told to use the feature.
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        let seventh = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        let last = if __cpuid(0x8000_0000).eax > 0x8000_0000 { __cpuid(0x8000_0001).ecx } else { 0 };
        [__cpuid(1).ecx, seventh, last]
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    [u32::MAX; 3]
}

/// Ends the process with a sentence if the processor is too old for this build: later it would end by an illegal instruction. For the first line of
/// `main`; [`Game::new`](super::Game::new) does it too.
pub fn require_processor() {
    if let Some(sentence) = complaint(registers()) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), sentence.as_bytes());
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_processor_lacks_is_named() {
        assert_eq!(complaint([u32::MAX; 3]), None);
        for (sentence, register, bit) in WANTED {
            let mut registers = [u32::MAX; 3];
            registers[register] = !(1 << bit);
            assert_eq!(complaint(registers), Some(sentence));
        }
        assert_eq!(complaint([0; 3]), Some(no!("sse4.2")));
        assert!(no!("avx2").contains("has no avx2; take one"));
        require_processor();
    }
}
