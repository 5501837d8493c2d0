/**
 * JsonNames: a name that stands twice in one JSON object. `JSON.parse` keeps the last value and says nothing, and the
 * first one would be lost.
 *
 * @internal
 */

const quote = 34
const colon = 58
const backslash = 92

const isSpace = (code: number) => code === 32 || code === 10 || code === 13 || code === 9

/** The index after the string that begins at `from`. */
const stringEnd = (text: string, from: number): number => {
  for (let end = text.indexOf('"', from + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === backslash) slashes++
    if (slashes % 2 === 0) return end + 1
  }
  return text.length
}

/** At least as many as there are names in the text: colons after quotes, some of which may stand inside of strings. */
const namesAtMost = (text: string): number => {
  let count = 0
  for (let at = text.indexOf(":"); at >= 0; at = text.indexOf(":", at + 1)) {
    let before = at - 1
    while (isSpace(text.charCodeAt(before))) before--
    if (text.charCodeAt(before) === quote) count++
  }
  return count
}

/** The number of names in a value. Not recursive: what is read may be nested deeply. */
const namesIn = (value: unknown): number => {
  const rest = [value]
  let count = 0
  while (rest.length > 0) {
    const next = rest.pop()
    if (typeof next !== "object" || next === null) continue
    const values = Object.values(next)
    if (!Array.isArray(next)) count += values.length
    for (const inner of values) if (typeof inner === "object" && inner !== null) rest.push(inner)
  }
  return count
}

/** Reads the text name by name. */
const find = (text: string): string | undefined => {
  const open: Array<Set<string> | undefined> = []
  let at = 0
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === quote) {
      const end = stringEnd(text, at)
      let after = end
      while (isSpace(text.charCodeAt(after))) after++
      const names = open.at(-1)
      if (names !== undefined && text.charCodeAt(after) === colon) {
        const name = JSON.parse(text.slice(at, end)) as string
        if (names.has(name)) return name
        names.add(name)
      }
      at = end
      continue
    }
    const character = text[at]
    if (character === "{") open.push(new Set())
    else if (character === "[") open.push(undefined)
    else if (character === "}" || character === "]") open.pop()
    at++
  }
  return undefined
}

/** A name that one of the objects in `text` has twice; `value` is what `JSON.parse` made of it. */
export const twice = (text: string, value: unknown): string | undefined =>
  namesAtMost(text) === namesIn(value) ? undefined : find(text)
