export default {
  template: "<div></div>",
  props: { content: String },
  mounted() {
    this.show();
  },
  watch: {
    content() {
      this.show();
    },
  },
  methods: {
    show() {
      window.monitorPage.show(this.$el, this.content);
    },
  },
};
