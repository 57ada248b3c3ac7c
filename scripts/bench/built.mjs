/**
 * What is measured comes from dist/ and runs on plain Node: the loader that runs the sources names every function anew each time
 * one is made, which costs a call more than its limits do.
 */
export async function built(file) {
  try {
    return await import(new URL(`../../dist/${file}`, import.meta.url).href)
  } catch (cause) {
    throw new Error(`dist/${file} cannot be loaded: run npm run build first`, { cause })
  }
}
