export default { define: { 'process.env': {}, global: 'window' }, server: { hmr: false }, build: { chunkSizeWarningLimit: 99999, minify: false } };
