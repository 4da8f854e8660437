//! The macros that declare settings.

/// Declares a mapping of settings: a struct with an optional, placed value for each key, its [`Setting`] and its
/// [`Keys`].
///
/// Doc comments become descriptions in the JSON Schema, `= default` the value where nobody declares one (filled in
/// by `preset`), `required` what must be there, `later` the keys of the contract that are refused by name.
///
/// [`Setting`]: super::reader::Setting
/// [`Keys`]: super::reader::Keys
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident, $noun:literal {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:literal)?, )+
        }
        required [$($required:ident),*]
        later [$($later:ident),*]
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name {
            $( $(#[doc = $doc])+ pub(super) $key: Option<$crate::config::reader::At<$type>>, )+
        }

        impl $name {
            /// The keys of this section.
            pub(super) fn keys() -> $crate::config::reader::Keys {
                $crate::config::reader::Keys {
                    noun: $noun,
                    known: vec![$(stringify!($key)),+],
                    required: vec![$(stringify!($required)),*],
                    later: vec![$(stringify!($later)),*],
                    misplaced: Vec::new(),
                }
            }

            /// Reads the section with other keys than its own.
            pub(super) fn read_keys(
                node: &$crate::config::yaml::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
                keys: &$crate::config::reader::Keys,
            ) -> Option<Self> {
                let mut section = Self::default();
                for (key, value) in reader.entries(node, keys)? {
                    $( if key == stringify!($key) { section.$key = reader.setting(key, value); } )+
                }
                Some(section)
            }
        }

        impl $crate::config::reader::Setting for $name {
            const COLLECTION: bool = true;

            fn read(
                node: &$crate::config::yaml::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                Self::read_keys(node, reader, &Self::keys())
            }

            fn schema() -> serde_json::Value {
                let properties = [$((
                    stringify!($key),
                    $crate::config::json_schema::property(
                        <$type as $crate::config::reader::Setting>::schema(),
                        &[$($doc),+],
                        None $(.or(Some(serde_json::json!($default))))?,
                    ),
                )),+];
                $crate::config::json_schema::object(&[$($about),+], properties, &[$(stringify!($required)),*])
            }

            fn over(self, base: Self) -> Self {
                Self { $( $key: $crate::config::reader::At::over(self.$key, base.$key), )+ }
            }

            fn absent() -> Option<Self> {
                Some(Self::default())
            }

            fn preset(self, reader: &mut $crate::config::reader::Reader<'_>) -> Self {
                Self { $( $key: reader.preset(self.$key, None $(.or(Some($default.to_string())))?), )+ }
            }

            fn paths() -> Vec<$crate::config::reader::SettingPath> {
                let keys = [$((
                    stringify!($key),
                    <$type as $crate::config::reader::Setting>::paths(),
                )),+];
                $crate::config::overrides::section_paths(keys, &[$(stringify!($later)),*])
            }
        }
    };
}

/// Declares how a closed set of words is read into an enum of the domain; `later` words are refused by name.
macro_rules! choice {
    ($type:ty { $( $word:literal => $value:expr, $doc:literal; )+ } later [$($later:literal),*]) => {
        impl $crate::config::reader::Setting for $type {
            fn read(
                node: &$crate::config::yaml::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                let known = [$($word),+];
                let word = $crate::config::settings::word(node, reader, &known, &[$($later),*], None)?;
                [$(($word, $value)),+].into_iter().find_map(|(known, value)| (known == word).then_some(value))
            }

            fn schema() -> serde_json::Value {
                $crate::config::json_schema::words(&[$(($word, $doc)),+])
            }
        }
    };
}

pub(super) use {choice, section};
