"""Rules that come along: few, and meant to be right. What a team minds beyond them is in a list of its own."""

_ASKING = "(?:how to|how do i|help me)"

BUILT_IN: dict[str, list[str]] = {
    "harassment/threatening": [
        r"/\bi(?:'m| am)? (?:will|gonna|going to) (?:kill|murder|rape|shoot|stab) (?:you|him|her|them)\b/",
        r"/\byou (?:deserve|ought) to die\b/",
    ],
    "self-harm/intent": [
        r"/\bi (?:want|am going|plan|intend)(?: to)? (?:kill|hang|cut|hurt) myself\b/",
        r"/\bi (?:want to|am going to) (?:die|end my life|commit suicide)\b/",
    ],
    "self-harm/instructions": [
        r"/\b(?:kill|hang|hurt) yourself\b/",
        r"/\b(?:how|ways?|best way) to (?:kill (?:my|your|one)self|commit suicide|hang (?:my|your|one)self)\b/",
    ],
    "sexual/minors": [
        r"/\b(?:child|kiddie|minor|underage|preteen|toddler)s? (?:porn\w*|erotica|nudes?|sex)\b/",
        r"/\b(?:porn\w*|erotica|nudes?|sex) (?:of|with) (?:a |an )?(?:child|children|minors?|toddlers?|preteens?)\b/",
    ],
    "illicit/violent": [
        rf"/\b{_ASKING} (?:make|build|assemble) (?:an? )?(?:(?:pipe|nail|dirty|car|home ?made) )?bombs?\b/",
        rf"/\b{_ASKING} (?:make|synthesi[sz]e|produce) (?:sarin|vx|ricin|mustard gas|nerve (?:gas|agents?))\b/",
        rf"/\b{_ASKING} (?:murder|assassinate|poison) (?:someone|somebody|my|a|the)\b/",
    ],
}
