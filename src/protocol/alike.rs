//! Whether two shapes that serde was traced for can be one.

use serde_reflection::{ContainerFormat, Format, VariantFormat};

/// True if two structs can be the same one, as far as each was traced.
pub(super) fn is_same_container(one: &ContainerFormat, other: &ContainerFormat) -> bool {
    let names = |container: &ContainerFormat| match container {
        ContainerFormat::Struct(fields) => fields.iter().map(|field| field.name.clone()).collect(),
        _ => Vec::new(),
    };
    let is_one_kind = std::mem::discriminant(one) == std::mem::discriminant(other);
    is_one_kind && names(one) == names(other) && are_same(&formats_in(one), &formats_in(other))
}

fn are_same(some: &[Format], others: &[Format]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| is_same(one, other))
}

/// What was not traced to its end may be anything.
fn is_same(one: &Format, other: &Format) -> bool {
    match (one, other) {
        (Format::Variable(open), known) | (known, Format::Variable(open)) => {
            open.borrow().as_ref().is_none_or(|found| is_same(found, known))
        }
        (Format::Option(one), Format::Option(other)) | (Format::Seq(one), Format::Seq(other)) => is_same(one, other),
        (Format::Map { key, value }, Format::Map { key: other_key, value: other_value }) => {
            is_same(key, other_key) && is_same(value, other_value)
        }
        (Format::Tuple(some), Format::Tuple(others)) => are_same(some, others),
        // As an array it is known once all of it is.
        (Format::TupleArray { content, size }, Format::Tuple(all)) | (Format::Tuple(all), Format::TupleArray { content, size }) => {
            all.len() == *size && all.iter().all(|one| is_same(one, content))
        }
        (Format::TupleArray { content, size }, Format::TupleArray { content: other, size: other_size }) => {
            size == other_size && is_same(content, other)
        }
        _ => one == other,
    }
}

/// What a struct or an enum consists of.
pub(super) fn formats_in(container: &ContainerFormat) -> Vec<Format> {
    match container {
        ContainerFormat::UnitStruct => Vec::new(),
        ContainerFormat::NewTypeStruct(format) => vec![(**format).clone()],
        ContainerFormat::TupleStruct(formats) => formats.clone(),
        ContainerFormat::Struct(fields) => fields.iter().map(|field| field.value.clone()).collect(),
        ContainerFormat::Enum(variants) => variants.values().flat_map(|variant| formats_of(&variant.value)).collect(),
    }
}

/// What a variant consists of, as far as it is known.
pub(super) fn formats_of(variant: &VariantFormat) -> Vec<Format> {
    match variant {
        VariantFormat::Variable(variable) => variable.borrow().as_ref().map(formats_of).unwrap_or_default(),
        VariantFormat::Unit => Vec::new(),
        VariantFormat::NewType(format) => vec![(**format).clone()],
        VariantFormat::Tuple(formats) => formats.clone(),
        VariantFormat::Struct(fields) => fields.iter().map(|field| field.value.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_reflection::Named;

    use super::*;

    #[test]
    fn two_types_of_one_name_are_one_if_all_that_is_known_of_them_is_the_same() {
        let (number, text) = (Format::U8, Format::Str);
        let of = |format: &Format| Box::new(format.clone());
        let wraps: [&dyn Fn(&Format) -> Format; 6] = [
            &|inner| Format::Option(of(inner)),
            &|inner| Format::Seq(of(inner)),
            &|inner| Format::Map { key: of(inner), value: of(&number) },
            &|inner| Format::Map { key: of(&number), value: of(inner) },
            &|inner| Format::Tuple(vec![Format::U8, inner.clone(), Format::U8]),
            &|inner| Format::TupleArray { content: of(inner), size: 2 },
        ];
        let wraps_of = |format: &Format| wraps.iter().map(|wrap| wrap(format)).collect::<Vec<_>>();
        let fields = |value: Format| ContainerFormat::Struct(vec![Named { name: "at".to_owned(), value }]);
        for one in wraps_of(&number) {
            for other in wraps_of(&number).into_iter().chain(wraps_of(&text)) {
                let [one, other] = [&one, &other].map(|format| fields(format.clone()));
                assert_eq!(is_same_container(&one, &other), one == other, "{one:?} {other:?}");
            }
            // What was not traced to its end may be anything, also within.
            assert!(wraps_of(&Format::unknown()).iter().any(|open| is_same(open, &one)), "{one:?}");
        }
        // An array is known as one once all of it is.
        let (two, three) = (Format::Tuple(vec![Format::U8; 2]), Format::Tuple(vec![Format::U8; 3]));
        let array = |format: &Format, size| Format::TupleArray { content: of(format), size };
        assert!(is_same(&array(&number, 2), &two) && is_same(&two, &array(&number, 2)));
        assert!(
            !is_same(&array(&number, 2), &three) && !is_same(&array(&text, 2), &two) && !is_same(&array(&number, 2), &array(&number, 3))
        );
        // By their fields' names, and by what they are.
        let named = |name: &str| ContainerFormat::Struct(vec![Named { name: name.to_owned(), value: Format::U8 }]);
        assert!(is_same_container(&named("x"), &named("x")) && !is_same_container(&named("x"), &named("y")));
        assert!(!is_same_container(&ContainerFormat::NewTypeStruct(of(&number)), &ContainerFormat::TupleStruct(vec![Format::U8])));
        assert!(!is_same_container(&ContainerFormat::UnitStruct, &ContainerFormat::TupleStruct(Vec::new())));
    }
}
