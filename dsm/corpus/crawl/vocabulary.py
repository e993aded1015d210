"""The words of made-up pages that are not about mathematics: topics in English, with words that mathematics uses too.

Function, set, group, field, ring, root, series, power, product, limit, degree, problem and solution all have a life
outside mathematics: a classifier must not get by with a list of words.
"""

from __future__ import annotations

from typing import NamedTuple

from dsm.corpus.crawl.pen import words


class Topic(NamedTuple):
    """What pages of one topic talk about."""

    name: str
    nouns: list[str]
    verbs: list[str]  # past tense, transitive
    adjectives: list[str]


def _topic(name: str, nouns: str, verbs: str, adjectives: str) -> Topic:
    return Topic(name, nouns.split(), verbs.split(), adjectives.split())


TOPICS = [
    _topic(
        "cooking",
        "recipe oven sauce onion garlic flour butter dough pan kitchen dinner root power-blender product spoon soup"
        " cheese pepper oil sugar cake half portion degree mixture table",
        "baked chopped mixed tasted served boiled roasted divided doubled added prepared",
        "fresh crispy sweet hot tender simple spicy even golden homemade",
    ),
    _topic(
        "travel",
        "hotel flight beach ticket passport island train station guide suitcase museum tour bridge map distance coast"
        " village harbour breakfast view hostel visa weekend route limit",
        "booked visited missed crossed explored reached photographed recommended left found",
        "cheap crowded scenic remote sunny famous quiet long comfortable expensive",
    ),
    _topic(
        "sport",
        "team match goal coach season player league stadium score point striker referee series tournament fan injury"
        " contract group final defence record title keeper half field round",
        "won lost scored missed signed trained coached defeated drew led",
        "fast young injured decisive close physical national unbeaten late strong",
    ),
    _topic(
        "finance",
        "stock bank loan interest rate market fund investor price tax mortgage budget share profit bond currency"
        " percent pension savings growth ratio value variable product insurance function",
        "bought sold raised invested borrowed paid cut estimated earned doubled",
        "annual risky stable fixed monthly negative positive financial average steady",
    ),
    _topic(
        "gaming",
        "level player console quest weapon controller boss character map update server guild graphics mission score"
        " studio sequel power combo solution puzzle dungeon matrix mode patch",
        "unlocked finished played upgraded defeated explored released streamed patched completed",
        "hard addictive hidden open multiplayer retro buggy epic random free",
    ),
    _topic(
        "politics",
        "minister parliament election vote party law reform debate coalition senator campaign poll budget treaty union"
        " speech majority committee mayor protest proof problem solution argument term",
        "rejected approved signed proposed opposed elected announced defended criticised supported",
        "public conservative liberal national local controversial new federal independent bitter",
    ),
    _topic(
        "gardening",
        "garden soil seed plant flower tree root leaf pot compost fertiliser tomato lawn hedge rose bulb watering"
        " greenhouse branch weed square-bed row spade bee shade",
        "planted watered pruned grew harvested dug trimmed covered moved cut",
        "green dry sunny wild organic early shady young healthy mixed",
    ),
    _topic(
        "cars",
        "engine wheel tyre brake car battery mileage driver fuel gear seat model dealer road speed power torque"
        " suspension garage steering hybrid cylinder ring cone warranty matrix-headlight",
        "drove repaired tested bought parked replaced charged compared tuned sold",
        "electric fast used quiet heavy sporty reliable compact expensive new",
    ),
    _topic(
        "health",
        "doctor patient sleep diet vaccine symptom treatment clinic blood heart exercise vitamin nurse therapy pain"
        " study disease hospital pressure weight dose risk function group sample",
        "treated examined prescribed reduced recovered measured avoided improved tested reported",
        "healthy chronic mild severe mental daily common significant medical low",
    ),
    _topic(
        "music",
        "album song guitar band concert singer melody drummer chord festival label tour record piano lyric stage fan"
        " scale harmony set series interval product note root",
        "recorded played sang released performed wrote produced covered mixed tuned",
        "live acoustic loud catchy slow electronic classic raw gentle harmonic",
    ),
    _topic(
        "film",
        "movie actor director scene script series episode camera trailer plot sequel audience cinema critic studio"
        " character award genre set limit ending twist dialogue budget season",
        "directed watched filmed starred released reviewed cut cast adapted loved",
        "dark funny slow brilliant predictable independent animated moving dull clever",
    ),
    _topic(
        "programming",
        "function variable array class server database bug compiler loop string library script package browser test"
        " integer matrix vector module field set map query thread tree",
        "compiled deployed debugged refactored installed wrote tested imported called merged",
        "static dynamic recursive asynchronous legacy open-source broken fast generic deprecated",
    ),
    _topic(
        "pets",
        "dog cat puppy kitten leash vet bowl fur tail breed toy cage rabbit collar walk treat shelter litter bark paw"
        " group trick owner trainer basket",
        "fed walked adopted groomed trained chased washed cuddled rescued bought",
        "playful shy old fluffy hungry loyal small nervous lazy friendly",
    ),
    _topic(
        "property",
        "house flat rent kitchen bedroom balcony garden roof landlord tenant mortgage agent square-metre floor garage"
        " street price area view contract boiler wall window neighbour lift",
        "rented bought renovated sold painted furnished inspected insulated measured listed",
        "bright spacious modern central quiet small furnished old renovated affordable",
    ),
    _topic(
        "weather",
        "storm rain wind temperature forecast cloud degree snow flood sunshine front pressure summer winter drought"
        " thunder frost heat record coast average valley humidity warning limit",
        "hit reached caused predicted flooded damaged dropped followed recorded measured",
        "heavy cold warm strong severe mild wet windy dry record-breaking",
    ),
    _topic(
        "history",
        "king war castle empire battle army treaty church queen archive ruler trade century revolution colony temple"
        " manuscript ruin monk siege power field line province coin",
        "conquered built ruled destroyed founded signed discovered defended invaded wrote",
        "ancient medieval royal bloody lost powerful holy imperial rich forgotten",
    ),
    _topic(
        "science-news",
        "telescope planet experiment particle laser cell gene climate satellite robot sample physicist energy mass"
        " orbit theory model equation formula measurement signal wave field result graph",
        "discovered observed measured published launched confirmed modelled simulated detected proved",
        "quantum new distant rare tiny linear surprising experimental global magnetic",
    ),
    _topic(
        "jobs",
        "employer salary interview candidate manager team office skill career contract shift deadline application"
        " recruiter degree position experience report training problem-solver client project benefit bonus hour",
        "hired applied managed trained promoted organised interviewed offered led solved",
        "full-time remote senior motivated flexible junior competitive temporary permanent professional",
    ),
    _topic(
        "fashion",
        "dress shoe jacket fabric designer collection colour pattern jeans scarf size model runway style brand leather"
        " button sleeve bag hat trend line figure ring set",
        "wore designed bought sewed matched tried launched styled returned folded",
        "elegant casual vintage oversized bright silk comfortable expensive classic slim",
    ),
    _topic(
        "parenting",
        "child baby school teacher homework toy bedtime nap playground birthday lunch sister brother game lesson"
        " classroom class test apple book story problem number pencil table",
        "taught played cried read packed shared counted learned drew asked",
        "tired happy curious little loud patient young clever proud early",
    ),
]

WORDS = words(
    "day|week|month|year|morning|evening|place|friend|person|story|idea|reason|way|part|case|point",
    "time|fact",
)
WHEN = words(
    "yesterday|last week|in the morning|this year|after work|on Sunday|at the weekend|before dinner",
    "every day|two years ago|in the end|for the first time|as usual|at first|without a problem",
    "in general|at once|by the way",
)
SENTENCES = [
    "The {a} {n} {v} the {n} {w}.",
    "I {v} my {n} {w}, and the {n} was {a}.",
    "Most people think that a {a} {n} is better than a {n}, but {P} disagrees.",
    "{P} {v} a {n} and a {a} {n} {w}.",
    "It is {a} to have a {n} when the {n} is {a}.",
    "If you have a {n}, then you should look for a {a} {n}.",
    "There are {i} reasons why the {n} {v} the {a} {n}.",
    "We {v} the {n} for {i} days and the {n} for {i} more.",
    "The {n} costs {i} dollars, which is {i} dollars more than the {n}.",
    "In {y} about {i} percent of all people {v} a {n}.",
    "{P} from {P} says the {n} is {a} and {a}.",
    "What is the {a} way to find a {n} for the {n}?",
    "How many people {v} a {n} {w}?",
    "My {k} with the {n} was {a}: it {v} the {n} {w}.",
    "Let us look at the {a} {n} of {P}.",
    "Since the {n} is {a}, the {n} must be {a} too.",
    "The {n} and the {n} are {a}; the {k} is not.",
    "{P} bought {i} of them and gave {i} to a {k}.",
    "The problem is the {n}, and the solution is a {a} {n}.",
    "For every {n} there is a {n} that {v} it.",
    "You can see the {n} in the table below, next to the {a} {n}.",
    "As {P} wrote {w}, a {n} is only as {a} as its {n}.",
    "No {n} {v} more than {i} of the {a} {k}s.",
    "They {v} {i} out of {i} and the {n} stayed {a}.",
    "Thanks to {P} the {a} {n} {v} the {n} {w}, with {i} to go.",
]
TITLES = [
    "The {a} {n}",
    "How {P} {v} a {n}",
    "{i} ways to find a {a} {n}",
    "Why the {n} is {a}",
    "{P}: {a} {n} and {n}",
    "A {n} for every {k}",
    "Review: the {a} {n} of {P}",
]
COMMENTS = [
    "Thanks, this helped me a lot!",
    "I do not agree with the {n}.",
    "Great post, {P}.",
    "Has anybody else {v} the {n}?",
    "Does it work with a {a} {n}?",
    "Same here, {i} times already.",
]
GERMAN = [
    "Die {A} {N} ist seit {i} Jahren sehr beliebt.",
    "Wir haben die {N} gestern besucht und waren begeistert.",
    "Der Preis liegt bei {i} Euro und damit höher als im letzten Jahr.",
    "Nach Angaben von {P} soll die {N} bald größer werden.",
    "Viele Leute wissen nicht, dass eine {A} {N} auch günstig sein kann.",
    "In {P} gibt es jetzt {i} davon, sagte ein Sprecher am Montag.",
    "Wenn die {N} nicht funktioniert, hilft oft eine {A} {N}.",
]
GERMAN_NOUNS = words(
    "Küche|Reise|Wohnung|Schule|Zeitung|Stadt|Lösung|Gruppe|Musik|Straße|Prüfung|Ausstellung",
    "Werkstatt",
)
GERMAN_ADJECTIVES = words("neue|alte|große|kleine|schöne|moderne|günstige|bekannte|lange")
