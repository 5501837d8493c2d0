/**
 * Pre-tokenizers, written so that JavaScript splits as Rust does.
 *
 * A `tokenizer.json` is made for the Rust library, where white space is Unicode's White_Space, a digit is any character
 * of category N and a word has letters of every script. The JavaScript library has classes of its own, knows two of the
 * five behaviors of a `Split`, and leaves a Metaspace in one piece, which gives other tokens for some texts. The same
 * rules are therefore spelled out as patterns.
 */
import { Predicate } from "effect"

const split = (regex: string) => ({ type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false })

/** The matches of a pattern and nothing else. */
const matches = (regex: string) => ({ type: "Split", pattern: { Regex: regex }, behavior: "Removed", invert: true })

/** The pattern of GPT-2 (https://github.com/openai/gpt-2/blob/master/src/encoder.py), which ByteLevel means. */
const byteLevelPattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/** Classes of characters, as what stands within brackets. */
const word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"
const punctuation = "\\p{P}!-\\/:-@\\[-`{-~"
const space = "\\p{White_Space}"

/** `\s` and `\S` as classes that mean the same in both languages, inside brackets too. */
const explicitSpace = (regex: string): string =>
  regex.replace(/\\([\s\S])/g, (escape, character) =>
    character === "s" ? "\\p{White_Space}" : character === "S" ? "\\P{White_Space}" : escape
  )

/** A character, an escape or a class, and a quantifier that gives nothing back, if it has one. */
const atom = /(\\[pPx]\{[^}]*\}|\\[\s\S]|\[\^?\]?(?:\\[\s\S]|\[:\^?\w+:\]|[^\]\\])*\]|[^\\()[\]|?*+{}])(?:([*+?])\+)?/gu

/**
 * Possessive quantifiers, which JavaScript has not (the library takes them for greedy ones): a lookahead is not tried
 * again, so what it has found and what is then matched by reference is given back as a whole or not at all.
 */
const atomic = (regex: string): string => {
  if (regex.includes("(?>")) throw new Error("a pattern has an atomic group, which Charter does not know")
  let count = 0
  return regex.replace(atom, (whole, repeated: string, quantifier: string | undefined) => {
    if (quantifier === undefined) return whole
    const name = `atomic${count++}`
    return `(?=(?<${name}>${repeated}${quantifier}))\\k<${name}>`
  })
}

const literally = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&")

/** Cuts where a pattern matches; what it matches and what lies between change places with `invert`. */
const cut = (regex: string, behavior: unknown, invert: boolean) => {
  const [match, between] = [`(?:${regex})`, `(?:(?:(?!${regex})[\\s\\S])+)`]
  const [delimiter, piece] = invert ? [between, match] : [match, between]
  switch (behavior) {
    case "Isolated":
      return split(regex)
    case "Removed":
      return invert ? matches(regex) : { type: "Split", pattern: { Regex: regex }, behavior, invert }
    case "Contiguous":
      return matches(`(?:${match})+|${between}`)
    case "MergedWithPrevious":
      return matches(`${piece}${delimiter}?|${delimiter}`)
    case "MergedWithNext":
      return matches(`${delimiter}${piece}?|${piece}`)
    default:
      throw new Error(`a pre-tokenizer has the behavior ${JSON.stringify(behavior)}`)
  }
}

/** What is used of the library's pre-tokenizers. */
export interface PreTokenizer {
  readonly config?: { readonly behavior?: unknown; readonly invert?: unknown }
  readonly pattern?: RegExp
  readonly tokenizers?: ReadonlyArray<PreTokenizer | null>
  pre_tokenize_text: (text: string) => ReadonlyArray<string>
}

/** What lies between the matches of a pattern. No pattern of its own says that: a match may end in what begins none. */
const between = (text: string, pattern: RegExp): ReadonlyArray<string> => {
  const pieces: Array<string> = []
  let end = 0
  for (const match of text.matchAll(pattern)) {
    pieces.push(text.slice(end, match.index))
    end = match.index + match[0].length
  }
  return [...pieces, text.slice(end)].filter((piece) => piece !== "")
}

/** Has the library's pre-tokenizers remove what matches, whose split leaves in what the pattern's groups have found. */
export const install = (made: PreTokenizer | null): void => {
  const { config, pattern } = made ?? {}
  if (made !== null && pattern !== undefined && config?.behavior === "Removed" && config.invert !== true) {
    made.pre_tokenize_text = (text) => between(text, pattern)
  }
  made?.tokenizers?.forEach(install)
}

/** A pre-tokenizer behind another one. The library cannot tell which of the pieces is the text's first. */
const inner = (json: unknown): unknown => {
  if (Predicate.hasProperty(json, "prepend_scheme") && json.prepend_scheme === "first") {
    throw new Error(
      "behind another pre-tokenizer it has one with the prepend_scheme first, which Charter does not know"
    )
  }
  return json
}

/** A `pre_tokenizer` of a `tokenizer.json`, changed to mean in JavaScript what it means in Rust. */
export const asInRust = (json: unknown): unknown => {
  if (!Predicate.isObject(json) || !Predicate.hasProperty(json, "type")) return json
  const config: Readonly<Record<string, unknown>> = { ...json }
  const { behavior = "Isolated" } = config
  switch (config.type) {
    case "Sequence":
      return Array.isArray(config.pretokenizers)
        ? { ...config, pretokenizers: config.pretokenizers.map((part, i) => asInRust(i === 0 ? part : inner(part))) }
        : json
    case "Digits":
      return split(config.individual_digits === true ? "\\p{N}" : "\\p{N}+")
    case "Punctuation":
      return cut(`[${punctuation}]`, behavior, false)
    case "Whitespace":
      return matches(`[${word}]+|[^${word}${space}]+`)
    case "WhitespaceSplit":
      return matches(`[^${space}]+`)
    case "BertPreTokenizer":
      return matches(`[^${space}${punctuation}]+|[${punctuation}]`)
    case "Split": {
      const pattern: Readonly<Record<string, unknown>> = Predicate.isObject(config.pattern) ? { ...config.pattern } : {}
      if (typeof pattern.Regex === "string")
        return cut(explicitSpace(atomic(pattern.Regex)), behavior, config.invert === true)
      return typeof pattern.String === "string"
        ? cut(literally(pattern.String), behavior, config.invert === true)
        : json
    }
    case "Metaspace": {
      const mark = typeof config.replacement === "string" ? literally(config.replacement) : "▁"
      // A mark begins a piece, with what follows it.
      return config.split === false
        ? json
        : { type: "Sequence", pretokenizers: [{ ...config, split: false }, cut(mark, "MergedWithNext", false)] }
    }
    case "FixedLength":
      if (!(Number(config.length) >= 1)) throw new Error(`FixedLength has the length ${String(config.length)}`)
      return matches(`[\\s\\S]{1,${String(config.length)}}`)
    case "ByteLevel":
      // The prefix space goes in front of the whole text, before it is split, so such a one stays as it is.
      return config.use_regex === false || config.add_prefix_space === true
        ? json
        : {
            type: "Sequence",
            pretokenizers: [split(explicitSpace(byteLevelPattern)), { ...config, use_regex: false }]
          }
    default:
      return json
  }
}
