// Node.js 20 lacks `fs.globSync`, which the suites import but use only in commands that are not run here.
import { register } from "node:module";

const fs = 'export * from "node:fs"; export { default } from "node:fs"; export const globSync = undefined;';
const hooks = `
const fs = "data:text/javascript," + encodeURIComponent(${JSON.stringify(fs)});
export const resolve = (specifier, context, next) =>
  specifier === "fs" && context.parentURL?.endsWith("/dist/index.js") ? { url: fs, shortCircuit: true } : next(specifier, context);
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
