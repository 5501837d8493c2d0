/**
 * Transcripts of the sandbox model: plain text between markers, each of which is one token.
 *
 * Texts carry no leading space here; a word token holds the space before it, so text follows a marker with one space.
 * The comparison request of the judge is the exception: it follows `\n\n` directly.
 */

/** The literal text of the special tokens. */
export const marker = {
  /** End of text; it begins every transcript as well. */
  end: "<|endoftext|>",
  /** Padding; never sampled. */
  pad: "<|pad|>",
  human: "\n\nHuman:",
  assistant: "\n\nAssistant:",
  critiqueRequest: "\n\nCritiqueRequest:",
  critique: "\n\nCritique:",
  revisionRequest: "\n\nRevisionRequest:",
  revision: "\n\nRevision:",
  consider: "Consider the following conversation between a human and an assistant:",
  options: "\n\nOptions:",
  optionA: "\n(A)",
  optionB: "\n(B)",
  answer: "\n\nThe answer is:",
  verdictA: " (A)",
  verdictB: " (B)",
  gap: "\n\n"
} as const

/** The special tokens in the order of their ids. */
export const markers: ReadonlyArray<string> = Object.values(marker)

/** What the assistant reads before it answers. */
export const assistant = (prompt: string): string => `${marker.end}${marker.human} ${prompt}${marker.assistant}`

/** What the judge reads before its verdict. */
export const judge = (prompt: string, comparison: string, a: string, b: string): string =>
  `${marker.end}${marker.consider}${marker.human} ${prompt}${marker.gap}${comparison}` +
  `${marker.options}${marker.optionA} ${a}${marker.optionB} ${b}${marker.answer}`
