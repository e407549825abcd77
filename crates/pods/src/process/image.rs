//! The two images that this runtime has built in.

/// What an image name means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// The binary's own echo server.
    Echo,
    /// The machine's own file system.
    Host,
}

impl Image {
    /// By name; tags and digests are accepted, since there is only one version.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.split_once('@').map_or(name, |(name, _)| name);
        let tag = name.rsplit_once('/').and_then(|(_, last)| last.split_once(':'));
        let name = tag.map_or(name, |(_, tag)| &name[..name.len() - tag.len() - 1]);
        match name {
            "svcd.io/echo" => Some(Self::Echo),
            "svcd.io/host" => Some(Self::Host),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_tags_and_digests() {
        for name in
            ["svcd.io/echo", "svcd.io/echo:latest", "svcd.io/echo:1.2@sha256:00", "svcd.io/echo@sha256:00"]
        {
            assert_eq!(Image::parse(name), Some(Image::Echo), "{name}");
        }
        assert_eq!(Image::parse("svcd.io/host:v1"), Some(Image::Host));
        for name in
            ["nginx", "nginx:1.27", "docker.io/svcd.io/echo", "svcd.io/echoes", "", ":", "svcd.io:443/echo"]
        {
            assert_eq!(Image::parse(name), None, "{name}");
        }
    }
}
