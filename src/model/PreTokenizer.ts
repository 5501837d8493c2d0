/**
 * Pre-tokenizers, written so that JavaScript splits as Rust does.
 *
 * A `tokenizer.json` is made for the Rust library, where white space is Unicode's White_Space, a digit is any character
 * of category N and a word has letters of every script. The JavaScript library has classes of its own, knows two of the
 * five behaviors of a `Split`, and leaves a Metaspace in one piece, which gives other tokens for some texts. The same
 * rules are therefore spelled out as patterns, and a text is cut at their matches here.
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
  if (typeof behavior !== "string" || !Object.hasOwn(behaviors, behavior)) {
    throw new Error(`a pre-tokenizer has the behavior ${JSON.stringify(behavior)}`)
  }
  return { type: "Split", pattern: { Regex: regex }, behavior, invert }
}

/** What is used of the library's pre-tokenizers. */
export interface PreTokenizer {
  readonly config?: { readonly type?: unknown; readonly behavior?: unknown; readonly invert?: unknown }
  pattern?: RegExp
  readonly tokenizers?: ReadonlyArray<PreTokenizer | null>
  pre_tokenize_text: (text: string) => ReadonlyArray<string>
}

/** A part of a text, which a pattern matches or which lies between two that it matches. */
interface Part {
  readonly text: string
  readonly isMatch: boolean
}

/** Whether a place in a text is in the middle of a character: JavaScript finds what is not there between its halves. */
const splits = (text: string, index: number): boolean =>
  /^[\ud800-\udbff][\udc00-\udfff]/.test(text.slice(index - 1, index + 1))

/** A text as its parts. A match of nothing is one, too, but where another match has just ended. */
const partsOf = (text: string, pattern: RegExp): ReadonlyArray<Part> => {
  const parts: Array<Part> = []
  let end = 0
  for (const { 0: found, index } of text.matchAll(pattern)) {
    if (found === "" && (splits(text, index) || (index === end && parts.at(-1)?.isMatch === true))) continue
    if (index > end) parts.push({ text: text.slice(end, index), isMatch: false })
    parts.push({ text: found, isMatch: true })
    end = index + found.length
  }
  if (end < text.length) parts.push({ text: text.slice(end), isMatch: false })
  return parts
}

/** Parts put together with the one before them where that is asked for. */
const joined = (parts: ReadonlyArray<Part>, joins: (part: Part, before: Part) => boolean): Array<string> => {
  const pieces: Array<string> = []
  for (const [i, part] of parts.entries()) {
    if (i > 0 && joins(part, parts[i - 1]!)) pieces.push(pieces.pop()! + part.text)
    else pieces.push(part.text)
  }
  return pieces
}

/** What becomes of the parts, by the behavior of a `Split`. Of matches side by side but one is merged. */
const behaviors: Readonly<Record<string, (parts: ReadonlyArray<Part>) => ReadonlyArray<string>>> = {
  Isolated: (parts) => parts.map(({ text }) => text),
  Removed: (parts) => parts.filter(({ isMatch }) => !isMatch).map(({ text }) => text),
  Contiguous: (parts) => joined(parts, (part, before) => part.isMatch === before.isMatch),
  MergedWithPrevious: (parts) => joined(parts, (part, before) => part.isMatch && !before.isMatch),
  MergedWithNext: (parts) => joined(parts, (part, before) => !part.isMatch && before.isMatch)
}

/**
 * Has the library's pre-tokenizers cut as in Rust: it knows two of the five behaviors, leaves in what groups have found,
 * and has another white space.
 */
export const install = (made: PreTokenizer | null): void => {
  if (made === null) return
  const { config, pattern } = made
  if (config?.type === "ByteLevel") made.pattern = new RegExp(explicitSpace(byteLevelPattern), "gu")
  if (config?.type === "Split" && pattern !== undefined) {
    const pieces = behaviors[String(config.behavior)]!
    made.pre_tokenize_text = (text) =>
      pieces(
        partsOf(text, pattern).map((part) => (config.invert === true ? { ...part, isMatch: !part.isMatch } : part))
      ).filter((piece) => piece !== "")
  }
  made.tokenizers?.forEach(install)
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
      if (typeof pattern.String === "string") return cut(literally(pattern.String), behavior, config.invert === true)
      throw new Error(`a pre-tokenizer has the pattern ${JSON.stringify(config.pattern)}`)
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
