/**
 * Choice: which of some options a text or a token stands for.
 *
 * The options of a question have a part in common, such as the brackets of ` (A)` and ` (B)`; what tells them apart is
 * its {@link Choice.marks}.
 *
 * @internal
 */

export interface Choice {
  /** What all options begin with, such as ` (`: text that may be given to the model before it chooses. */
  readonly before: string
  /** What tells the options apart, such as `A` and `B`. */
  readonly marks: ReadonlyArray<string>
  readonly options: ReadonlyArray<string>
}

const isWord = (character: string | undefined) => character !== undefined && /[\p{L}\p{N}]/u.test(character)

/** Words are not taken apart: `first` and `fifth` have nothing in common. */
export const make = (options: ReadonlyArray<string>): Choice => {
  const shortest = Math.min(...options.map(({ length }) => length))
  const first = options[0] ?? ""
  let start = 0
  while (start < shortest && options.every((option) => option[start] === first[start])) start++
  while (start > 0 && isWord(first[start - 1])) start--
  let end = 0
  const fromEnd = (option: string, i: number) => option[option.length - 1 - i]
  while (start + end < shortest && options.every((option) => fromEnd(option, end) === fromEnd(first, end))) end++
  while (end > 0 && (isWord(fromEnd(first, end - 1)) || options.some(({ length }) => length - end <= start))) end--
  return {
    before: first.slice(0, start),
    marks: options.map((option) => option.slice(start, option.length - end)),
    options
  }
}

const bare = (text: string) => text.replace(/^[\s([{"'*`]+/, "")

/** The option that a token begins; `nothing` for space and brackets, undefined for anything else. */
export const ofToken = ({ marks }: Choice, token: string): number | "nothing" | undefined => {
  const text = bare(token)
  if (text === "") return "nothing"
  const found = marks.flatMap((mark, i) =>
    text === mark || (text.startsWith(mark) && !isWord(text[mark.length])) || mark.startsWith(text) ? [i] : []
  )
  if (found.length === 1) return found[0]
  const exact = marks.indexOf(text)
  return exact < 0 ? undefined : exact
}

const escape = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** The option that a whole answer names: the only one that it mentions, or the one that it is. */
export const ofText = ({ marks, options }: Choice, answer: string): number | undefined => {
  const text = bare(answer)
  const is = marks.findIndex((mark) => text.startsWith(mark) && /^\s*$|^[)\]}.:,"'*`\n]/.test(text.slice(mark.length)))
  if (is >= 0) return is
  const mentioned = options.flatMap((option, i) => {
    const whole = option.trim()
    // A bare letter is a word of the language, too.
    if (whole.length < 2) return []
    return new RegExp(`(?<![\\p{L}\\p{N}])${escape(whole)}(?![\\p{L}\\p{N}])`, "u").test(answer) ? [i] : []
  })
  return mentioned.length === 1 ? mentioned[0] : undefined
}
